from posekit.data.synthetic import SyntheticPeople
