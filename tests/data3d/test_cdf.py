import base64
import zlib

import numpy as np
import pytest

from posekit.data.body3d.cdf import read_cdf
from posekit.errors import UserError
from tests.data3d.cdf_made import write_cdf

POSES = np.arange(2 * 96, dtype=np.float32).reshape(1, 2, 96)

# The array as cdflib 1.3.16 writes it: row-major, big-endian, column-major and packed by variable, packed as a file.
CDFLIB = {
    "row": (
        "c-rOEZ%7ki9Ki9LGyhyxR#sM4S6R)P+x%0SS#C|VpkkmxFM8p%oo;aM#_o)SUW|y4kdTm&h>(bgh>(boh>)ldsgQ_}h>(boh%k$g"
        "h}L&`tLd8vde;v=&pppQf9~POJ<sD$f<+MGap7lJDieiScT-rAjSRD%8fkGt^lEKwT3D);4OyzwqHVGv*}S!NMPkq}B6^k6=?}Cx"
        "TJ;vcBP{E(qg6X1Hbi8<BKd+HddRPvGi85B4H+Hc0Z)U+S+4~Gax@@K53Ex|twBTbDq%y3iuF-N2_IHe!!GTYqaCUo4oIc0ii#4c"
        "slg-Knsg;9>Ftq-7B#A*#CMC?K(YD8t%h_%|Fx4MQTRvEn8?S>SC*cc?Tp@JEs?k6pcymD9<=}Nv#1nVDc$yzwQ^FP*3@;)`Igyj"
        "pQbCq{~c+j=44)mC-;7w?y@HGm^odK)ll&7yAeYl1~Ha64<13tg#;Je@SzzI#L$Uu^r8<}(2oHOVhAG`#Tdphfhh>P1tA?-$U!dh"
        "kdFdLD1;4mxKNHtRKty0?7=?x(1?RLgk}T~go+3Z9K|uja2zLa5}i1OE}TX;&Y%Zp(Tj69j|=F-MO?yVT)|ab!*%rI25#aO25=j9"
        "a2JEPhx>SlAq?XYo?rw|@eI!~iWhi^R~W-<yun+H;~n1P112zu&-j8Ve8o3>hv4O?APrWeV-7Nqi7aG8#9ZWH9_C{Ka<LGLuo!t*"
        "f~8o7d@RQbtV97;VKvr3!dk4udK6*<HewTOD8goJfgQzgzzG*hP>M2?V=K0y0+rZ~D(pZtc48N5yyiLSGVl9jWX`@%X2+lU5?56G"
        "FXIP`!BgA"
    ),
    "big-endian": (
        "c-rOEdx%U?9Ki8AJM1#v?>E<bm))6tU|Ely`#ak%g|^m~Km4)R%-x--*}2o)yRzjENs=~6k|arzBuSDaNk~GHBuSDaNi0c{@x69-"
        "&Fnu?{&VVc=gxhcd(Q9oJLldf&8KOZjP|SfmU@Tmd6<JAgR|HCT7E0Y&;rVCZ?}_ro#~o-y`641UA<V<)t3ZfuA6ddLZL{sHQ45~"
        "MuJJxF@tUPmOxX=j97YOtka1{oa~!sB%X-7oq_d6lM!mLqfs**)q5VSPsH0|uCA=4Yo!AXY0FA(wi0fszRpZ{Cd_11uPm>wuF#vC"
        "j6iX-W2JScBbBn#ZjJ7Jw~PUlWv_%2amRJ~Mp6>c{!!cD#UuZc??C?l!b81hUfg;g%6p^gX2<V)z66IsIk!u5`Wl+^>(A{s`@XOL"
        "|3=%fwEw#mWVQ6h<>Q*}J3Y7jUL1?Ov)b*N<`sUJL)be%hHH4CX$IGgk<d{No-rEHf)se(*o}Q4+Xn9%r*ICJKtIN9JirrpeZIj5"
        "eAP6ee;EL>E{sU{mW;(jOa<SSIVc9zAdEp4fmJIjz<8t%tFac0O{h%Sh)rOe5=9JDmoR2=u@&3E_+<xnVi%Z;>_Hdyf_ce)P}y=2"
        "%ux>G2#$jJ%5j{)NicUgjWak4;vna70T)3`<T9?{Du|C<#|_*9u@W*QcX1!YO&;PA9)lRlQ#`|S5KnoDS9lF#D{t`*??IfU8=vt7"
        "Ud+GYJAP=IBL0e%qo@+as#4@a4MZWR4n<xRyP;y+P(whD)G!Rk2#_x|3ZpRw<W7ylcuW9!RFg0nQ$SADG)%_~kY6<uvoIUvTFu2g"
        "%m;Z_C0KxkpaxVKf(U_nP!*^|6{roh7)wwM>O?I=4VHtNQ7f?uwSDWP%iCCT)=g3W{iJ{U(>-sC%KT;f2~W&Z*8"
    ),
    "column": (
        "c-lMrnSqgk;s1XIFkrL*5m2@RkYEO4P9SCjVkQPu!1NyoxSaEIbMx~QToOwX72NWRauZ7wG@M=BG`TWLN(zdt^!1Zd()7}c(~|Y_"
        "5{nb{((}u>f(sIpQxyU-DvL9di=jFblQVNNODehi9D^P8-SbmY5{pt4APU`bGSf3k6r5A@N>Yos+>26E^O90?N^}%_6N@Ty67y0N"
        "j10`p4HZIz9l10@i&Kjfic1R$@{3BW6hQXs0v(_W6>-SPEG{XAyF`<Vfl43*Gkh2~pz>K2VJuL%!4#qBFg{v}BqsyJ+#roeYT2O7"
        "93a7gq*VvOWSNRYvm@IHH5<uJ#wkD|EFix)m0@H9CMZsTh101|o*$uMR0$+_k-{udzMF$#x<6w!!++5uwjLq{496bUFH1|UoH}#r"
        "v(TupwD6UYne*hGo12@Rotq)B`LLj%5C|%{yLh;Gba=SPC@Kmm0bx-~hernxd-&_`f6n{xzYwpUo{);?L^YE(0Y$GKi`<e6u1#^j"
        "UZ|fGINUQasVVcB$L2Fqvs;!47@bs{&hb+u$Yn~<sg(+DqFb*BE^ocP<&v9q`3`UP?=PO%#o8>GEhl92M6mzmQ%?U%H~I6G2fcq)"
        "9%X1&sXQxv&*+Htz0Zw_c1DLZl4~9r$9sI7TDZ^fpvwK3NwXyD3{J~@{*%&ZvOglFGd1kTS*`3piF0|)Za&h#-SSMJY{Ef5qmxRr"
        "W1no8ZTm)bdhHwaehzkv6N;ZKeHh&}o@gAm@Dn^bXF-dGy5-SKFU`k1>6*`Fp6_&E6<_&8$WX7ib#+LfFYomgPp!;%c*=ggvuNQ@"
        "dCu8F72qNV0(uY$9t_xFiT6JaKu8W)p2_?t5dZ-Apkw0"
    ),
    "packed": (
        "c-lMrnSt@l83slMFkspQB)FjLT@adW0*I9F=3toa&zQ~d|L&D~58*_a;~zh}|J$(!1lDbuWxD<6Vw25xW@R`YP2l=_Q9kbWOSb2E"
        "Z_atV=ob_e0s%od6jg$=)dYnm?(NUr#wz4k|Mg+qdE4^)yKld>oaZiZW=ZJmUV+!vnMM=3*HqYBzTE6mlKu8=l*g*+ypdTKl-_Pq"
        "jJ)%eS2gK?!J(?&yYD`4zjf<N*nC};*PGV*S}Rr^-sC^grqR###pTE4r}iz7GO;?UthfI3y%j(I79G()s+SYcoXhB3q^;=O+0iTL"
        "$|)Nja#%}tn)2LLGM~Jk_N`iFwDRU_A>FgPgeHFJD~RZpFrD;s_tHHMnSXkMd0(~JeOFUm^r8P!N}v0ym0RvzdAw$y%XyjYM_e__"
        "Lu}st2=xxmEShxc+LH9As&Aj~JDp?G`CLuD+9dYp>HlB$tJ<zpHPl;tnce=lm*g{xwBx@nT1lx(FM4s@Kuuu>i=w=cOu?aMu@*sB"
        "@u~~$bvy|I&JxEsjv4fE`Xq4~3w+~tQY)I!UL&$Vz;!|Z5BHja1wvO>v<iQ<XmI|pfYZH@NB4s=gJ`0JMQ3owBa?FvbaoZ+-L>eK"
        "i*eA`Tf{%TKr;M7|LPrWuO$xf-Z`Sn^T_Po1HHBa{_h_d4p(%zS2PLsJkp$($aDT9lfGeJctx-Ij04eo4p;j;VzzrEyv(3i|3{Z("
        "&EfJt4G+>*DacBmIKq^oC~bM7wWIaKVI`eoLQj%4rzKi)ZD7*g$kiIrYZ}q5wB~SCPD4xYjh3?-$Ha1unneUOy}iMx?UmRp%Qt1A"
        "jOdCZes7#aS8bFwz0n-?=BVA3osT~+iSAhYy>rHArBvIWw)LxKdS9ve`ty^pc8urt32Y27AOpnQK+Fo|gHkdZ0M{rrI{"
    ),
}


@pytest.mark.parametrize("kind", CDFLIB)
def test_files_of_another_writer(tmp_path, kind):
    path = tmp_path / "poses.cdf"
    path.write_bytes(zlib.decompress(base64.b85decode(CDFLIB[kind])))
    found = read_cdf(path, "Pose")
    assert found.shape == (1, 2, 96)
    assert found.dtype.itemsize == 4
    # cdflib leaves the bytes of a column-major variable in the order that it was given.
    expected = POSES[0].reshape(96, 2).T[None] if kind == "column" else POSES
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("row_major", [True, False])
@pytest.mark.parametrize("little", [True, False])
@pytest.mark.parametrize(("packed", "file_packed"), [(False, False), (True, False), (False, True)])
def test_every_layout(tmp_path, wide, row_major, little, packed, file_packed):
    path = tmp_path / "poses.cdf"
    poses = np.random.default_rng(0).normal(0, 1000, (3, 4, 5)).astype(np.float32)
    write_cdf(path, poses, "Pose", wide, row_major, little, packed, file_packed)
    np.testing.assert_array_equal(read_cdf(path, "Pose"), poses)


def test_lists_variables_when_one_is_missing(tmp_path):
    path = tmp_path / "poses.cdf"
    write_cdf(path, POSES, "Pose")
    with pytest.raises(UserError, match=r"pose file .*poses\.cdf has no variable 'Joints'; it has Pose"):
        read_cdf(path, "Joints", "pose file")


def test_absent_and_foreign_files(tmp_path):
    path = tmp_path / "poses.cdf"
    with pytest.raises(UserError, match="does not exist"):
        read_cdf(path, "Pose")
    for content, reason in ((b"", "is cut short"), (b"MATLAB 5.0 MAT-file, made", "is no CDF file")):
        path.write_bytes(content)
        with pytest.raises(UserError, match=reason):
            read_cdf(path, "Pose")


@pytest.mark.parametrize(("wide", "packed"), [(True, False), (False, True)])
def test_mutated_files_end_in_one_line_or_in_numbers(tmp_path, wide, packed):
    path = tmp_path / "poses.cdf"
    write_cdf(path, POSES, "Pose", wide=wide, packed=packed)
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    refused = 0
    for trial in range(150):
        content = bytearray(whole[: rng.integers(len(whole))] if trial % 3 == 0 else whole)
        for _ in range(int(rng.integers(1, 4))):
            if content:
                content[rng.integers(min(len(content), 900))] = rng.integers(256)
        path.write_bytes(bytes(content))
        try:
            found = read_cdf(path, "Pose")
        except UserError as error:
            refused += 1
            assert "\n" not in str(error)  # noqa: PT017
        else:
            assert found.dtype.kind in "fiu"
    assert refused > 50
