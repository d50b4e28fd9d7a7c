//! A real application: Django with its admin on PostgreSQL, as `deployments/apps/django` has it. The first trial is of
//! `make e2e`, the others of `make e2e-apps`.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::board::{Board, HOST, TOKEN, get, response, with_board};
use crate::command::wait_for;
use crate::world::TestCluster;
use crate::{Outcome, expect};

pub(super) fn django_migrates_serves_and_answers_its_probes(world: &TestCluster) -> Outcome {
    with_board(world, |board| {
        board.create_superuser()?;
        board.answers_its_client()?;
        expect(&board.ready_pods()?.len(), &2)?;
        board.never_restarted()
    })
}

pub(super) fn the_admin_is_used_by_a_browser(world: &TestCluster) -> Outcome {
    let settings = &world.cluster()?.settings;
    let browser = settings.browser.as_ref().ok_or("run make e2e-apps")?;
    let picture = settings.logs.with_file_name("django-admin.png");
    if let Some(folder) = picture.parent() {
        fs::create_dir_all(folder)
            .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    }
    with_board(world, |board| {
        board.create_superuser()?;
        board.is_used_by(
            &browser.display().to_string(),
            &picture.display().to_string(),
        )
    })?;
    println!("what the browser showed: {}", picture.display());
    Ok(())
}

pub(super) fn a_rolling_update_fails_no_request(world: &TestCluster) -> Outcome {
    with_board(world, |board| {
        let before = board.ready_pods()?;
        let ended = AtomicBool::new(false);
        let counts = thread::scope(|scope| {
            // Two clients ask one request after the other, each by a new connection.
            let clients = ["/", "/api/notes"]
                .map(|path| scope.spawn(|| ask_until(&ended, &board.address, path)));
            let updated = update(board, &before);
            ended.store(true, Ordering::Relaxed);
            let counts = clients.map(|client| {
                client
                    .join()
                    .unwrap_or_else(|_| Err("a client panicked".into()))
            });
            updated.map(|()| counts)
        })?;
        for count in counts {
            let count = count?;
            println!("answered requests of one client during the update: {count}");
            expect(&(count > 20), &true)?;
        }
        board.never_restarted()
    })
}

/// Starts every pod again, and waits until the old ones are gone.
fn update(board: &Board<'_>, before: &[(String, String)]) -> Outcome {
    board.kubectl(&["rollout", "restart", "deployment/board"])?;
    let status = ["rollout", "status", "deployment/board", "--timeout=170s"];
    board.kubectl(&status)?;
    for (pod, _) in before {
        wait_for(&format!("pod {pod} to be gone"), || {
            let left = board.kubectl(&["get", "pod", pod, "--ignore-not-found"])?;
            Ok(left.is_empty().then_some(()))
        })?;
    }
    expect(&board.ready_pods()?.len(), &2)
}

/// How many requests were answered; one that was not is the result.
fn ask_until(ended: &AtomicBool, address: &str, path: &str) -> Outcome<usize> {
    let mut count = 0;
    while !ended.load(Ordering::Relaxed) {
        let answer = get(address, path).map_err(|error| {
            let error = error.message().unwrap_or_default();
            format!("request {} of {path}: {error}", count + 1)
        })?;
        expect(&answer.starts_with("HTTP/1.1 200 "), &true)
            .map_err(|_| format!("request {} of {path}: {answer}", count + 1))?;
        count += 1;
    }
    Ok(count)
}

pub(super) fn term_drains_a_request_in_flight(world: &TestCluster) -> Outcome {
    with_board(world, |board| {
        let pods = board.ready_pods()?;
        let (pod, ip) = pods.first().ok_or("no pod is ready")?;
        let follower = board.kubectl_beside(&["logs", "--follow", &format!("pod/{pod}")])?;
        let mut connection = TcpStream::connect((ip.as_str(), 8000))?;
        let body = r#"{"title": "written while the pod ended"}"#;
        let (first, rest) = body.split_at(body.len() / 2);
        let length = body.len();
        let head = format!(
            "POST /api/notes HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {TOKEN}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        connection.write_all((head + first).as_bytes())?;
        board.kubectl(&["delete", "pod", pod, "--wait=false"])?;
        // TERM has come, and uvicorn waits for what is under way.
        wait_for("uvicorn to shut down", || {
            let waits = follower
                .stdout()?
                .contains("Waiting for connections to close");
            Ok(waits.then_some(()))
        })?;
        expect(&TcpStream::connect((ip.as_str(), 8000)).is_err(), &true)
            .map_err(|_| "it still accepts connections")?;
        connection.write_all(rest.as_bytes())?;
        let answer = response(&mut connection)?;
        expect(&answer.starts_with("HTTP/1.1 201 "), &true)
            .map_err(|_| format!("another answer: {answer}"))?;
        let log = follower.finish()?.expect_code(0)?;
        log.expect_stdout("Finished server process")?;
        // It was stored, and the others serve it.
        let notes = get(&board.address, "/api/notes")?;
        expect(&notes.contains("written while the pod ended"), &true)
            .map_err(|_| format!("no such note: {notes}").into())
    })
}
