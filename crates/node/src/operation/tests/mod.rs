//! Whole operations on fake nodes. Only containerd and its service are fake. They keep their state in files, so that it is
//! still there after a test has killed the process.

/// Runs each test on a node whose containerd is given the shim's path, and on one that finds the shim by the link alone.
macro_rules! also_by_the_link {
    ($($test:ident)*) => {
        mod by_path {
            $(#[test] fn $test() { super::$test("kubeadm"); })*
        }
        mod by_the_link {
            $(#[test] fn $test() { super::$test("debian-old"); })*
        }
    };
}

mod config_files;
mod fake;
mod install;
mod kills;
mod layouts;
mod uninstall;
