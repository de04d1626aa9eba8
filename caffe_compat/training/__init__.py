"""Training as Caffe trains: solvers, their rates and rules, snapshots, and the log."""
