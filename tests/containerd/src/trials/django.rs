//! The application of `deployments/apps/django` in its image, on PostgreSQL of Debian, in a network of a loopback only.

use std::net::TcpStream;

use nix::sys::signal::Signal;
use wasm_interp_test_support::repository;

use super::python_packages::serves;
use super::sockets::{LoopbackNetwork, WEB};
use crate::Outcome;
use crate::command::{Running, wait_for};
use crate::world::{CtrContainer, World, import};

const IMAGE: &str = "localhost/wasm-interp-apps/django:1";
/// Of the database, and of the application as its client knows it.
const DATABASE: [&str; 3] = [
    "POSTGRES_USER=board",
    "POSTGRES_PASSWORD=secret",
    "POSTGRES_DB=board",
];
const APPLICATION: [&str; 4] = [
    "DJANGO_SECRET_KEY=of the tests",
    "DJANGO_ALLOWED_HOSTS=board",
    "DJANGO_CONN_MAX_AGE=60",
    "BOARD_API_TOKEN=change-this-token",
];

/// PostgreSQL, until it is dropped.
struct Database {
    server: Option<Running>,
}

impl Database {
    fn start(world: &World, network: &LoopbackNetwork) -> Outcome<Self> {
        let data = world.folder("database")?;
        let mut command = network.command(world, &repository().join("scripts/database"));
        command
            .arg(&world.settings().database)
            .arg(&data)
            // Nothing of it has to outlive the machine.
            .args(["-c", "fsync=off"])
            .envs(DATABASE.iter().filter_map(|one| one.split_once('=')))
            // So that it is known as the run's, should it be left behind.
            .env("WASM_INTERP_TEST_RUN", world.name());
        let server = Running::start(command, None)?;
        let connected = wait_for("PostgreSQL", || {
            network.inside(|| Ok(TcpStream::connect((WEB, 5432)).ok().map(drop)))
        });
        let database = Self {
            server: Some(server),
        };
        connected.map_err(|error| {
            let said = database.server.as_ref().map(Running::stdout);
            format!("{}: {said:?}", error.message().unwrap_or_default())
        })?;
        Ok(database)
    }

    fn stop(mut self) -> Outcome {
        let server = self.server.take().ok_or("stopped twice")?;
        server.signal(Signal::SIGINT)?;
        server.finish()?.expect_code(0).map(drop)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // What is left is found at the end of the run.
        self.server.take().map(Running::end);
    }
}

/// A container of the image, with what its manifests grant and set.
fn application<'world>(world: &'world World, network: &LoopbackNetwork) -> CtrContainer<'world> {
    let host = format!("POSTGRES_HOST={WEB}");
    let container = DATABASE
        .iter()
        .chain(&APPLICATION)
        .chain([&host.as_str()])
        .fold(world.container(IMAGE), |container, variable| {
            container.options(&["--env", variable])
        });
    let database = format!("wasm-interp.io/connect=tcp:{WEB}:5432");
    network
        .join(container)
        .options(&["--annotation", &database])
}

pub(super) fn django_runs_on_postgresql(world: &World) -> Outcome {
    import(world.daemon(), &[world.settings().apps.join("django.tar")])?;
    let network = LoopbackNetwork::new(world)?;
    let database = Database::start(world, &network)?;
    let manage = |arguments: &[&str]| {
        application(world, &network)
            .options(&["--env", "DJANGO_SUPERUSER_PASSWORD=the board 1"])
            .arguments(&[&["python", "manage.py"], arguments].concat())
            .run()?
            .expect_code(0)
    };
    manage(&["migrate", "--noinput"])?.expect_stdout("Applying notes.0001_initial... OK\n")?;
    // The models have no change that no migration makes.
    manage(&["makemigrations", "--check", "--dry-run"])?;
    let user = ["--username=admin", "--email=admin@example.org"];
    manage(&[&["createsuperuser", "--noinput"][..], &user].concat())?;
    let client = ["board", "127.0.0.1:8000", "board"];
    serves(world, &network, application(world, &network), 8000, &client)?;
    database.stop()
}
