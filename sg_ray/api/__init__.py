"""What ``import sg_ray`` offers; the commands of the same names call the same functions."""
