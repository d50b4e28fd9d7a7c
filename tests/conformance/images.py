"""The images that containerd's suite asks for, made here: documents and layers as an image registry has them.

Nothing of them is downloaded: their program is busybox. They have what the suite looks at: several platforms, several layers,
users, a file with the set-user-id bit. Equal inputs give equal digests.
"""

import dataclasses
import gzip
import hashlib
import io
import json
import tarfile

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

# The first one is this machine's. The suite pulls these three, and wants others beside them.
PLATFORMS = (("linux", "amd64", None), ("linux", "arm64", "v8"), ("linux", "s390x", None), ("linux", "ppc64le", None))

# The names that the suite uses, as numbers that it expects.
NAMES = {"root": 0, "sys": 3, "www-data": 33, "backup": 34}
USERS = "".join(f"{name}:x:{number}:{number}::/:/bin/sh\n" for name, number in NAMES.items())
GROUPS = "".join(f"{name}:x:{number}:\n" for name, number in NAMES.items())
# The suite ends a listener, the first process of its namespace, by TERM. Debian's nc does not handle that signal.
LISTENER = "#!/bin/sh\ntrap 'exit 143' TERM\n/bin/busybox nc \"$@\" &\nwait $!\n"


@dataclasses.dataclass
class Entry:
    """A file, or a folder if it has no content; a link if it has a target."""

    path: str
    content: bytes | None = None
    mode: int = 0o755
    target: str | None = None


class Store:
    """What a registry serves: blobs by digest, and which of them a name means."""

    def __init__(self):
        self.blobs = {}
        self.types = {}
        self.tags = {}

    def add(self, content, media_type):
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.blobs[digest] = content
        self.types[digest] = media_type
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    def add_document(self, document, media_type):
        return self.add(json.dumps(document).encode(), media_type)

    def tag(self, name, descriptor):
        """`name` is HOST/REPOSITORY:TAG."""
        repository, _, tag = name.partition("/")[2].rpartition(":")
        self.tags[repository, tag] = descriptor["digest"]


def layer(entries):
    """A layer's archive, uncompressed."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for entry in entries:
            info = tarfile.TarInfo(entry.path)
            info.mode = entry.mode
            if entry.target is not None:
                info.type, info.linkname = tarfile.LNKTYPE, entry.target
            elif entry.content is None:
                info.type = tarfile.DIRTYPE
            else:
                info.size = len(entry.content)
            tar.addfile(info, io.BytesIO(entry.content or b""))
    return archive.getvalue()


def add_image(store, platform, layers, config):
    """The descriptor of an image for one platform; `layers` are lists of entries."""
    system, architecture, variant = platform
    archives = [layer(entries) for entries in layers]
    diff_ids = [f"sha256:{hashlib.sha256(archive).hexdigest()}" for archive in archives]
    document = {
        "architecture": architecture, "os": system, "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created_by": "tests/conformance"} for _ in archives],
    }
    if variant:
        document["variant"] = variant
    descriptor = store.add_document({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": store.add_document(document, CONFIG),
        "layers": [store.add(gzip.compress(archive, compresslevel=1, mtime=0), LAYER) for archive in archives],
    }, MANIFEST)
    described = {"architecture": architecture, "os": system, **({"variant": variant} if variant else {})}
    return {**descriptor, "platform": described}


def add_index(store, name, layers_of, config=None, platforms=PLATFORMS):
    """An image for several platforms under a name. `layers_of` gives the layers for a platform's architecture."""
    config = config or {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["sh"]}
    manifests = [add_image(store, platform, layers_of(platform[1]), config) for platform in platforms]
    store.tag(name, store.add_document({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}, INDEX))


def busybox_root(busybox, applets, architecture):
    """The files of busybox's image. Only one platform's runs, but no two have a layer in common."""
    folders = ["bin", "dev", "etc", "home", "root", "tmp", "usr", "usr/bin", "var"]
    yield from (Entry(folder, mode=0o1777 if folder == "tmp" else 0o755) for folder in folders)
    yield Entry("bin/busybox", busybox)
    yield from (Entry(f"bin/{applet}", target="bin/busybox") for applet in applets if applet not in ("busybox", "nc"))
    yield Entry("bin/nc", LISTENER.encode())
    yield Entry("etc/passwd", USERS.encode(), 0o644)
    yield Entry("etc/group", GROUPS.encode(), 0o644)
    yield Entry("etc/platform", architecture.encode(), 0o644)


def all_images(busybox, applets):
    """A store with every image of the suite of containerd 2.4.2 (its integration/images, and literals in its tests)."""
    store = Store()

    def root(architecture):
        return list(busybox_root(busybox, applets, architecture))

    def pause(architecture):
        return [[Entry("pause", f"pause for {architecture}".encode())]]

    def volumes(architecture):
        folders = ("test_dir", "C:", "C:/weird_test_dir", ":colon_prefixed")
        return [root(architecture), *([Entry(folder), Entry(f"{folder}/file", b"content\n", 0o644)] for folder in folders)]

    # The suite calls bash there, looks at the mode of passwd, and mounts file systems although the root is read-only.
    def ownership(architecture):
        bash = Entry("bin/bash", b'#!/bin/sh\nexec /bin/sh "$@"\n')
        mount_points = [Entry(folder) for folder in ("proc", "sys", "run")]
        return [[*root(architecture), *mount_points, bash, Entry("usr/bin/passwd", b"", 0o4755)]]

    add_index(store, "ghcr.io/containerd/busybox:1.36", lambda architecture: [root(architecture)])
    add_index(store, "registry.k8s.io/e2e-test-images/busybox:1.29-2", lambda architecture: [root(architecture)])
    add_index(store, "ghcr.io/containerd/volume-copy-up:2.2", volumes)
    add_index(store, "ghcr.io/containerd/volume-ownership:2.1", ownership)
    for tag in ("3.6", "3.10.2"):
        add_index(store, f"registry.k8s.io/pause:{tag}", pause)
    # One that no snapshotter of Linux can take.
    add_index(store, "ghcr.io/containerd/windows/nanoserver:1809", pause, platforms=(("windows", "amd64", None),))
    return store


HOSTS = ("ghcr.io", "registry.k8s.io")
