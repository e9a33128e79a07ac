"""`fastlb demo`: backends, balancer and traffic in one process, to look at and to play with."""
