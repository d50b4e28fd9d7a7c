//! One node: a Debian with systemd as its first process, containerd.service, kubelet.service and
//! kube-proxy.service as real units. What runs on it is [`crate::provision`]'s and the trials' business.

use std::fs;
use std::net::Ipv4Addr;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use wasm_interp_test_support::boot::{BootedNode, NodeRoot};

use crate::Outcome;
use crate::addresses::{self, BRIDGE, CLUSTER_DNS};
use crate::pki::Authority;
use crate::settings::ClusterSettings;

/// Which containerd a node has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Series {
    /// The distribution's own: 1.6.
    Distribution,
    /// 2.4, put where an administrator puts it.
    Newest,
}

/// A node that runs.
pub(crate) struct ClusterNode {
    pub(crate) name: &'static str,
    booted: BootedNode,
}

impl Deref for ClusterNode {
    type Target = BootedNode;

    fn deref(&self) -> &BootedNode {
        &self.booted
    }
}

/// What is known of a node before it runs.
pub(crate) struct NodePlan {
    pub(crate) name: &'static str,
    pub(crate) series: Series,
    /// Tells its addresses from other nodes'.
    pub(crate) number: u8,
}

impl NodePlan {
    pub(crate) fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, 0, 10 + self.number)
    }

    /// What its pods' addresses begin with.
    pub(crate) fn pods(&self) -> String {
        format!("10.214.{}", self.number)
    }
}

/// The nodes; the second joins when a trial asks for it.
pub(crate) const NODES: [NodePlan; 2] = [
    NodePlan {
        name: "first",
        series: Series::Distribution,
        number: 1,
    },
    NodePlan {
        name: "second",
        series: Series::Newest,
        number: 2,
    },
];

/// Where a node sees the archives of the images.
const IMAGES: &str = "/opt/e2e/images";

/// Sysctls that the kubelet wants: what it reads there. They are the whole machine's, so they are
/// shown to it as it wants them, and not set.
const SYSCTLS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

impl ClusterNode {
    /// Boots one that joins the cluster whose API server is at `server`.
    pub(crate) fn boot(
        settings: &ClusterSettings,
        plan: &NodePlan,
        authority: &Authority,
        server: &str,
    ) -> Outcome<Self> {
        let root = NodeRoot::lay(&settings.distribution, &settings.run, plan.name)?;
        // The kubelet mounts volumes in its folder, which an overlay does not take.
        fs::create_dir_all(root.folder().join("kubelet"))?;
        write_files(settings, plan, authority, server, &root)?;
        let booted = root.boot(|command| add_options(settings, &root, command))?;
        fs::write(root.folder().join("pid"), booted.pid().to_string())?;
        Ok(Self {
            name: plan.name,
            booted,
        })
    }

    /// Imports all archives of [`crate::images`].
    pub(crate) fn import_images(&self) -> Outcome {
        for archive in fs::read_dir(self.path(IMAGES))? {
            self.import_image(&archive?.file_name().to_string_lossy())?;
        }
        Ok(())
    }

    /// Imports one of them.
    pub(crate) fn import_image(&self, archive: &str) -> Outcome {
        let archive = format!("{IMAGES}/{archive}");
        self.must(&["ctr", "--namespace=k8s.io", "image", "import", &archive])
            .map(drop)
    }

    /// What every unit of the node has logged since `since` (seconds since the epoch).
    pub(crate) fn journal(&self, since: u64) -> Outcome<String> {
        self.must(&["journalctl", "--no-pager", "--since", &format!("@{since}")])
    }
}

fn write_files(
    settings: &ClusterSettings,
    plan: &NodePlan,
    authority: &Authority,
    server: &str,
    root: &NodeRoot<'_>,
) -> Outcome {
    let put = |path: &str, text: &str| root.write(path, text);
    let copy = |from: &Path, path: &str| root.copy(from, path);

    put(
        "etc/hosts",
        &format!("127.0.0.1 localhost\n{} {}\n", plan.address(), plan.name),
    )?;
    // Leads nowhere: no name of the outside is looked up.
    put("etc/resolv.conf", &format!("nameserver {CLUSTER_DNS}\n"))?;

    let user = format!("system:node:{}", plan.name);
    let serving = authority.issue(
        &user,
        "system:nodes",
        &[plan.name],
        &[plan.address().into()],
    )?;
    copy(&serving.certificate, "etc/kubernetes/kubelet.crt")?;
    copy(&serving.key, "etc/kubernetes/kubelet.key")?;
    copy(&authority.certificate(), "etc/kubernetes/ca.crt")?;
    copy(
        &authority.kubeconfig(server, &user, "system:nodes")?,
        "etc/kubernetes/kubelet.kubeconfig",
    )?;
    copy(
        &authority.kubeconfig(server, "system:kube-proxy", "system:node-proxier")?,
        "etc/kubernetes/kube-proxy.kubeconfig",
    )?;
    put(
        "etc/kubernetes/kubelet.yaml",
        &KUBELET.replace("@DNS@", CLUSTER_DNS),
    )?;
    put(
        "etc/kubernetes/kube-proxy.yaml",
        &KUBE_PROXY.replace("@PODS@", addresses::PODS),
    )?;
    put(
        "etc/cni/net.d/10-e2e.conflist",
        &CNI.replace("@PODS@", &plan.pods()),
    )?;
    put("usr/local/lib/e2e/prepare", &prepare(plan))?;
    fs::set_permissions(
        root.path().join("usr/local/lib/e2e/prepare"),
        fs::Permissions::from_mode(0o755),
    )?;
    for (unit, text) in [
        ("e2e-prepare", PREPARE_UNIT),
        ("kubelet", KUBELET_UNIT),
        ("kube-proxy", KUBE_PROXY_UNIT),
    ] {
        let text = text
            .replace("@ADDRESS@", &plan.address().to_string())
            .replace("@NAME@", plan.name);
        put(&format!("etc/systemd/system/{unit}.service"), &text)?;
        let wants = root
            .path()
            .join("etc/systemd/system/multi-user.target.wants");
        fs::create_dir_all(&wants)?;
        std::os::unix::fs::symlink(
            format!("/etc/systemd/system/{unit}.service"),
            wants.join(format!("{unit}.service")),
        )?;
    }
    match plan.series {
        Series::Distribution => {
            let config = CONTAINERD_1.to_owned() + &runc("io.containerd.grpc.v1.cri");
            put("etc/containerd/config.toml", &config)?;
        }
        Series::Newest => {
            for program in ["containerd", "ctr", "containerd-shim-runc-v2"] {
                let path = format!("usr/local/bin/{program}");
                copy(&settings.containerd.join(program), &path)?;
            }
            let config = CONTAINERD_2.to_owned() + &runc("io.containerd.cri.v1.runtime");
            put("etc/containerd/config.toml", &config)?;
            put(
                "etc/systemd/system/containerd.service.d/10-newest.conf",
                "[Service]\nExecStart=\nExecStart=/usr/local/bin/containerd\n",
            )?;
        }
    }
    for registry in [addresses::REGISTRY, addresses::PRIVATE_REGISTRY] {
        put(
            &format!("etc/containerd/certs.d/{registry}/hosts.toml"),
            &format!(
                "server = \"http://{registry}\"\n\
                 [host.\"http://{registry}\"]\n\
                 capabilities = [\"pull\", \"resolve\"]\n"
            ),
        )?;
    }
    Ok(())
}

/// The node's network, and what it sees of this machine.
fn add_options(settings: &ClusterSettings, root: &NodeRoot<'_>, command: &mut Command) {
    let bind = |from: &Path, to: &str| format!("{}:{to}", from.display());
    command
        .arg(format!("--network-bridge={BRIDGE}"))
        .arg(format!(
            "--bind={}",
            bind(&root.folder().join("kubelet"), "/var/lib/kubelet")
        ))
        .arg(format!(
            "--bind-ro={}",
            bind(&settings.run.folder().join("images"), IMAGES)
        ))
        .arg(format!(
            "--bind-ro={}",
            bind(&settings.dist, "/opt/e2e/dist")
        ));
    for program in ["kubelet", "kube-proxy"] {
        let target = format!("/usr/local/bin/{program}");
        command.arg(format!(
            "--bind-ro={}",
            bind(&settings.components.join(program), &target)
        ));
    }
}

/// What a node's own boot does before containerd: network, cgroups, what the kubelet reads.
fn prepare(plan: &NodePlan) -> String {
    let address = plan.address();
    let mut script = format!(
        "#!/bin/sh
set -eu
mount --make-rshared /
for hierarchy in /sys/fs/cgroup/*; do
    [ -e $hierarchy/cgroup.procs ] && mount -o remount,rw,bind $hierarchy
done
ip address add {address}/24 dev host0
ip link set host0 up
ip route add default via {gateway}
echo 1 >/proc/sys/net/ipv4/ip_forward
mkdir -p /run/e2e /etc/kubernetes/manifests
",
        gateway = addresses::GATEWAY
    );
    for other in NODES.iter().filter(|other| other.number != plan.number) {
        script += &format!(
            "ip route add {}.0/24 via {}\n",
            other.pods(),
            other.address()
        );
    }
    for (path, value) in SYSCTLS {
        script += &format!(
            "mkdir -p $(dirname /run/e2e/{path})\n\
             echo {value} >/run/e2e/{path}\n\
             mount --bind /run/e2e/{path} /proc/sys/{path}\n"
        );
    }
    script
}

const PREPARE_UNIT: &str = "[Unit]
Description=What the test's cluster needs before containerd
Before=containerd.service kubelet.service kube-proxy.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/lib/e2e/prepare
[Install]
WantedBy=multi-user.target
";

const KUBELET_UNIT: &str = "[Unit]
Description=kubelet
Wants=containerd.service
After=containerd.service e2e-prepare.service
[Service]
ExecStart=/usr/local/bin/kubelet \\
    --config=/etc/kubernetes/kubelet.yaml --kubeconfig=/etc/kubernetes/kubelet.kubeconfig \\
    --hostname-override=@NAME@ --node-ip=@ADDRESS@ --v=2
Restart=always
RestartSec=1
KillMode=process
[Install]
WantedBy=multi-user.target
";

const KUBE_PROXY_UNIT: &str = "[Unit]
Description=kube-proxy
After=e2e-prepare.service
[Service]
ExecStart=/usr/local/bin/kube-proxy \\
    --config=/etc/kubernetes/kube-proxy.yaml --hostname-override=@NAME@
Restart=always
RestartSec=1
[Install]
WantedBy=multi-user.target
";

const KUBELET: &str = r#"apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: systemd
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
maxPods: 150
podPidsLimit: -1
clusterDNS: ["@DNS@"]
clusterDomain: cluster.local
resolvConf: /etc/resolv.conf
staticPodPath: /etc/kubernetes/manifests
volumePluginDir: /var/lib/kubelet/plugins/volume
tlsCertFile: /etc/kubernetes/kubelet.crt
tlsPrivateKeyFile: /etc/kubernetes/kubelet.key
authentication:
  anonymous: { enabled: false }
  webhook: { enabled: true }
  x509: { clientCAFile: /etc/kubernetes/ca.crt }
authorization: { mode: Webhook }
# The disk is the machine's, whose fullness is not this node's business.
evictionHard: { memory.available: 100Mi }
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
"#;

const KUBE_PROXY: &str = r"apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: @PODS@
clientConnection: { kubeconfig: /etc/kubernetes/kube-proxy.kubeconfig }
# These sysctls are the whole machine's.
conntrack: { maxPerCore: 0, tcpCloseWaitTimeout: 0s, tcpEstablishedTimeout: 0s }
";

const CNI: &str = r#"{
  "cniVersion": "0.4.0",
  "name": "e2e",
  "plugins": [
    { "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
      "ipam": { "type": "host-local", "ranges": [[{ "subnet": "@PODS@.0/24" }]], "routes": [{ "dst": "0.0.0.0/0" }] } },
    { "type": "portmap", "capabilities": { "portMappings": true } }
  ]
}
"#;

/// As Debian's package has it, with what the kubelet's documentation asks for.
const CONTAINERD_1: &str = r#"# the test's node: do not edit by substring
version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    sandbox_image = "localhost/test/pause:1"
    # This machine may lack the capability to lower the score.
    restrict_oom_score_adj = true
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
      conf_dir = "/etc/cni/net.d"
    [plugins."io.containerd.grpc.v1.cri".registry]
      config_path = "/etc/containerd/certs.d"
"#;

const CONTAINERD_2: &str = r#"# the test's node: do not edit by substring
version = 3

[plugins."io.containerd.cri.v1.images"]
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "localhost/test/pause:1"
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = "/etc/containerd/certs.d"

[plugins."io.containerd.cri.v1.runtime"]
  # This machine may lack the capability to lower the score.
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "/etc/cni/net.d"
"#;

/// The tables of runc in the configuration of that plugin.
fn runc(plugin: &str) -> String {
    format!(
        r#"  [plugins."{plugin}".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."{plugin}".containerd.runtimes.runc.options]
      SystemdCgroup = true
"#
    )
}
