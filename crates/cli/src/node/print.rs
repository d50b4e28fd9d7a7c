//! Prints a report, as text or as JSON.

use std::io::{self, Write};

use wasm_interp_node::{JobReport, NodeStatus};

/// The whole report as JSON.
pub(super) fn json(report: &JobReport) -> serde_json::Result<String> {
    serde_json::to_string_pretty(report)
}

/// The steps, the state of the node for `status`, and then the message, on stderr if the job failed.
pub(super) fn lines(report: &JobReport) -> io::Result<()> {
    let mut out = io::stdout();
    for step in &report.steps {
        writeln!(out, "{:<12} {}", step.name, step.detail)?;
    }
    if let (Some(status), "status") = (&report.status, report.action.as_str()) {
        write!(out, "{}", table(status))?;
    }
    if report.succeeded() {
        writeln!(out, "{}", report.message)
    } else {
        writeln!(io::stderr(), "wasm-interp: {}", report.message)
    }
}

fn table(status: &NodeStatus) -> String {
    let path = |path: &Option<std::path::PathBuf>| match path {
        Some(path) => path.display().to_string(),
        None => "-".into(),
    };
    let yes = |yes| if yes { "yes" } else { "no" };
    let mut text = format!(
        "distribution        {}\n\
         configuration       {}\n\
         configured shim     {}\n\
         containerd answers  {}\n\
         handler listed      {}\n\
         running shim        {}\n",
        status
            .distribution
            .map_or("-", |distribution| distribution.name()),
        path(&status.config),
        path(&status.configured),
        yes(status.containerd_answers),
        yes(status.handler_listed),
        path(&status.running),
    );
    for release in &status.releases {
        let used = if release.in_use { ", in use" } else { "" };
        text += &format!("release             {}{used}\n", release.folder.display());
    }
    for container in &status.containers {
        text += &format!("container           {container}\n");
    }
    if let Some(reverts) = &status.reverts {
        text += &format!("reverted            {} times\n", reverts.times);
    }
    text
}
