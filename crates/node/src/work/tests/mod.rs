//! Whole jobs on whole fake nodes: only containerd and its service are not real, and what stands in for
//! them keeps all it knows in files, so that it is there again after a test has killed the job.

mod behaviour;
mod fake;
mod kills;
mod layouts;
