//! Packages in CPython 3.13: those that are built in, those that pip installed, and servers made of them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use wasm_interp_test_support::repository;

use super::python::{holds, script};
use super::sockets::LoopbackNetwork;
use crate::Outcome;
use crate::command;
use crate::guests::PYTHON;
use crate::world::{CtrContainer, World};

/// Servers, and the client that asks them.
fn programs() -> PathBuf {
    repository().join("tests/python")
}

/// A container with the packages that pip installed, and `programs()` in `/app`.
fn guest<'world>(world: &'world World, network: &LoopbackNetwork) -> CtrContainer<'world> {
    network
        .join(world.container(PYTHON))
        .options(&["--env", "PYTHONPATH=/packages"])
        .mount(world.python_packages(), "/packages", "rbind:ro")
        .mount(&programs(), "/app", "rbind:ro")
}

/// Runs a server that listens on a port, asks it by a native client, and ends it with TERM.
pub(super) fn serves(
    world: &World,
    network: &LoopbackNetwork,
    server: CtrContainer<'_>,
    port: u16,
    client_arguments: &[&str],
) -> Outcome {
    let listen = format!("wasm-interp.io/listen=tcp:{port}");
    let server = server.options(&["--annotation", &listen]);
    server.detach()?;
    let mut client = network.command(world, Path::new("python3"));
    client
        .arg(programs().join("client.py"))
        .args(client_arguments)
        // So that it is known as the run's, should it be left behind.
        .env("WASM_INTERP_TEST_RUN", world.name());
    let asked = command::run(client, None)?;
    if asked.code != 0 {
        return Err(format!("{asked}\nthe server: {}", server.output()?).into());
    }
    asked.expect_stdout("all answered\n")?;
    server.end_by("SIGTERM", 143)?;
    server.remove()
}

/// Its notes are in a volume: another container has them.
pub(super) fn flask_serves(world: &World) -> Outcome {
    let network = LoopbackNetwork::new(world)?;
    let data = world.folder("data")?;
    for questions in ["flask", "flask-again"] {
        let server = guest(world, &network)
            .mount(&data, "/data", "rbind:rw")
            .options(&["--env", "NOTES=/data/notes.sqlite"])
            .arguments(&["python", "/app/flask_app.py"]);
        serves(world, &network, server, 8080, &[questions])?;
    }
    Ok(())
}

pub(super) fn fastapi_and_uvicorn_serve(world: &World) -> Outcome {
    let network = LoopbackNetwork::new(world)?;
    let server = guest(world, &network).arguments(&["python", "/app/fastapi_app.py"]);
    serves(world, &network, server, 8080, &["fastapi"])
}

pub(super) fn django_serves_its_admin(world: &World) -> Outcome {
    let network = LoopbackNetwork::new(world)?;
    let data = world.folder("data")?;
    let manage = |arguments: &[&str]| {
        guest(world, &network)
            .mount(&data, "/data", "rbind:rw")
            .options(&["--env", "DJANGO_SUPERUSER_PASSWORD=secret"])
            .arguments(&[&["python", "/app/site/manage.py"], arguments].concat())
            .run()?
            .expect_code(0)
    };
    manage(&["migrate", "--verbosity=0"])?;
    manage(&["collectstatic", "--noinput", "--verbosity=0"])?;
    let user = ["--username=root", "--email=root@example.org"];
    manage(&[&["createsuperuser", "--noinput"][..], &user].concat())?;
    let server = guest(world, &network).mount(&data, "/data", "rbind:rw");
    let uvicorn = [
        "python",
        "-m",
        "uvicorn",
        "--app-dir=/app/site",
        "--port=8080",
        "asgi:application",
    ];
    let server = server.arguments(&uvicorn);
    serves(world, &network, server, 8080, &["django"])
}

pub(super) fn packages_that_are_built_in_do_their_work(world: &World) -> Outcome {
    let text = r#"
import importlib.metadata, sys
# After the image's own; pydantic-core needs typing_extensions from there.
sys.path.append("/packages")
import markupsafe, markupsafe._speedups, msgpack, msgpack._cmsgpack, psycopg2, pydantic_core, yaml, yaml._yaml
for module in "markupsafe._speedups", "msgpack._cmsgpack", "psycopg2._psycopg", "pydantic_core._pydantic_core", "yaml._yaml":
    assert sys.modules[module].__spec__.origin == "built-in", module
    assert sys.modules[module.split(".")[0]].__file__.startswith("/usr/local/"), module
assert markupsafe.escape("<&>") == "&lt;&amp;&gt;" and markupsafe._escape_inner is markupsafe._speedups._escape_inner
value = {"list": [1, 2.5, None, "é"], "nested": {"empty": {}}}
assert yaml.load(yaml.dump(value, Dumper=yaml.CDumper), Loader=yaml.CSafeLoader) == value
try:
    yaml.load("[1, ", Loader=yaml.CSafeLoader)
except yaml.YAMLError as error:
    assert "while parsing" in str(error), error
else:
    raise AssertionError("no error")
assert msgpack.Packer is msgpack._cmsgpack.Packer and msgpack.unpackb(msgpack.packb(value)) == value
from pydantic_core import SchemaValidator, ValidationError, core_schema, from_json, to_json
schema = core_schema.typed_dict_schema({"n": core_schema.typed_dict_field(core_schema.int_schema(gt=0))})
validator = SchemaValidator(schema)
assert validator.validate_json('{"n": "12"}') == {"n": 12}
try:
    validator.validate_python({"n": -1})
except ValidationError as error:
    assert error.errors()[0]["type"] == "greater_than", error
else:
    raise AssertionError("valid")
assert from_json(to_json(value)) == value
assert psycopg2.__libpq_version__ >= 180000 and psycopg2.__version__.startswith("2.9.13 (")
try:
    psycopg2.connect("host=127.0.0.1 port=1 connect_timeout=5")
except psycopg2.OperationalError as error:
    assert "Permission denied" in str(error), error
else:
    raise AssertionError("connected")
# pip finds them, and what it has to take of them.
lines = open("/usr/local/lib/python3.13/constraints.txt").read().split()
assert len(lines) == 6, lines
for line in lines:
    name, version = line.split("==")
    assert importlib.metadata.version(name) == version, line
"#;
    let container = script(world, text);
    holds(container.mount(world.python_packages(), "/packages", "rbind:ro")).map(drop)
}

pub(super) fn native_code_is_refused_with_what_to_do_instead(world: &World) -> Outcome {
    let packages = world.folder("packages")?;
    for (file, text) in [
        ("fast.cpython-313-x86_64-linux-gnu.so", ""),
        ("parcel/__init__.py", ""),
        ("parcel/_inner.abi3.so", ""),
        ("parcel/both.so", ""),
        ("parcel/both.py", "kind = 'python'"),
    ] {
        let path = packages.join(file);
        fs::create_dir_all(path.parent().ok_or("no folder")?)?;
        fs::write(path, text)?;
    }
    let text = r#"
import importlib.util
def refused(statement, path, package):
    try:
        exec(statement)
    except ImportError as error:
        assert str(error).startswith(f"{path} is native code of the package '{package}'"), error
        assert "constraints.txt" in str(error) and error.path == path, error
    else:
        raise AssertionError(statement)
refused("import fast", "/packages/fast.cpython-313-x86_64-linux-gnu.so", "fast")
refused("import parcel._inner", "/packages/parcel/_inner.abi3.so", "parcel")
refused("from parcel import _inner", "/packages/parcel/_inner.abi3.so", "parcel")
from parcel import both
assert both.kind == "python"
# Who looks whether it is there does so without an error.
assert importlib.util.find_spec("fast") is None
try:
    import parcel.nothing
except ModuleNotFoundError as error:
    assert str(error) == "No module named 'parcel.nothing'", error
"#;
    let container = script(world, text).options(&["--env", "PYTHONPATH=/packages"]);
    holds(container.mount(&packages, "/packages", "rbind:ro")).map(drop)
}

/// As `python3.13 -m venv` and pip lay it out on a machine whose Python is where the image has it.
pub(super) fn virtual_environment_of_another_machine_works(world: &World) -> Outcome {
    let venv = world.folder("venv")?;
    let packages = venv.join("lib/python3.13/site-packages");
    fs::create_dir_all(venv.join("bin"))?;
    fs::create_dir_all(&packages)?;
    symlink("/usr/local/bin/python3", venv.join("bin/python"))?;
    fs::write(
        venv.join("pyvenv.cfg"),
        "home = /usr/local/bin\ninclude-system-site-packages = false\nversion = 3.13.5\n",
    )?;
    fs::write(
        packages.join("parcel.py"),
        "import sys\ndef main(): print(sys.prefix, *sys.argv[1:])\n",
    )?;
    let script = venv.join("bin/parcel");
    fs::write(
        &script,
        "#!/venv/bin/python\nimport sys\nfrom parcel import main\nsys.exit(main())\n",
    )?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    for arguments in [
        &["/venv/bin/parcel", "one"][..],
        &[
            "/venv/bin/python",
            "-c",
            "import parcel; parcel.main()",
            "one",
        ],
    ] {
        world
            .container(PYTHON)
            .mount(&venv, "/venv", "rbind:ro")
            .arguments(arguments)
            .run()?
            .expect_code(0)?
            .expect_stdout("/venv one\n")?;
    }
    Ok(())
}
