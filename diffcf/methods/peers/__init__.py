"""Methods to compare with, one file each, behind the interface of ours."""
