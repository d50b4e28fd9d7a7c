//! TLS in CPython 3.13: guests and native programs as servers and clients of each other, and whom they trust.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use super::sockets::LoopbackNetwork;
use crate::Outcome;
use crate::command::{self, Running, wait_for};
use crate::guests::PYTHON;
use crate::world::{CtrContainer, World};

/// Answers one request per connection with what TLS it came over.
const SERVER: &str = r#"
import socketserver, ssl, sys
folder, port = sys.argv[1], int(sys.argv[2])
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        while self.rfile.readline().strip():
            pass
        body = f"over {self.connection.version()}".encode()
        self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
class Server(socketserver.TCPServer):
    allow_reuse_address = True
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(f"{folder}/server.crt", f"{folder}/server.key")
with Server(("127.0.0.1", port), Handler) as server:
    # A client that refuses the certificate is an error of accept, which the server passes over.
    server.socket = context.wrap_socket(server.socket, server_side=True)
    print("ready", flush=True)
    server.serve_forever()
"#;

/// What a client shares with the others of this file.
const FETCH: &str = r#"
import asyncio, os, socket, ssl, sys, urllib.error, urllib.request
folder, port = sys.argv[1], int(sys.argv[2])
def fetch(context):
    with urllib.request.urlopen(f"https://127.0.0.1:{port}/", context=context, timeout=100) as answer:
        return answer.read().decode()
def refused(reason, call):
    try:
        call()
    except OSError as error:
        if isinstance(error, urllib.error.URLError):
            error = error.reason
        assert isinstance(error, ssl.SSLCertVerificationError), error
        assert reason in error.verify_message, error
    else:
        raise AssertionError(f"accepted in spite of: {reason}")
"#;

const CLIENT: &str = r#"
trusting = ssl.create_default_context(cafile=f"{folder}/ca.crt")
assert fetch(trusting) == "over TLSv1.3"
older = ssl.create_default_context(cafile=f"{folder}/ca.crt")
older.maximum_version = ssl.TLSVersion.TLSv1_2
assert fetch(older) == "over TLSv1.2"
other = ssl.create_default_context(cafile=f"{folder}/other.crt")
refused("unable to get local issuer certificate", lambda: fetch(other))
def subject(name):
    with socket.create_connection(("127.0.0.1", port), timeout=100) as plain:
        with trusting.wrap_socket(plain, server_hostname=name) as secure:
            return secure.getpeercert()["subject"]
assert subject("web.test") == ((("commonName", "web"),),)
refused("Hostname mismatch", lambda: subject("other.test"))
async def stream():
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer
assert asyncio.run(stream()).endswith(b"over TLSv1.3")
print("all held")
"#;

/// The name by which OpenSSL looks for [`authority`]'s certificate: `openssl x509 -noout -subject_hash`.
const AUTHORITY_FILE: &str = "9e3d2e4f.0";

fn authority(name: &str) -> Outcome<(Issuer<'static, KeyPair>, String)> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?.pem();
    Ok((Issuer::new(params, key), certificate))
}

/// A folder with the authority, another one, and a server's certificate and key.
fn keys(world: &World) -> Outcome<PathBuf> {
    let folder = world.folder("keys")?;
    let (issuer, certificate) = authority("wasm-interp tests")?;
    fs::write(folder.join("ca.crt"), certificate)?;
    fs::write(folder.join("other.crt"), authority("another one")?.1)?;
    let mut params = CertificateParams::new(vec!["web.test".to_owned()])?;
    params
        .subject_alt_names
        .push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "web");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    fs::write(
        folder.join("server.crt"),
        params.signed_by(&key, &issuer)?.pem(),
    )?;
    fs::write(folder.join("server.key"), key.serialize_pem())?;
    Ok(folder)
}

fn guest<'world>(
    world: &'world World,
    network: &LoopbackNetwork,
    keys: &Path,
    rule: &str,
    script: &str,
) -> CtrContainer<'world> {
    network
        .join(world.container(PYTHON))
        .options(&["--annotation", rule])
        .mount(keys, "/keys", "rbind:ro")
        .arguments(&["python", "-c", script, "/keys", PORT])
}

const PORT: &str = "8443";
const LISTEN: &str = "wasm-interp.io/listen=tcp:8443";
const CONNECT: &str = "wasm-interp.io/connect=tcp:127.0.0.1:8443";

pub(super) fn servers_and_clients_are_as_strict_as_native_ones(world: &World) -> Outcome {
    let network = LoopbackNetwork::new(world)?;
    let keys = keys(world)?;
    let script = [FETCH, CLIENT].concat();
    let native = |script: &str| {
        let mut command = network.command(world, Path::new("python3"));
        command
            .args(["-c", script])
            .arg(&keys)
            .arg(PORT)
            // So that it is known as the run's, should it be left behind.
            .env("WASM_INTERP_TEST_RUN", world.name());
        command
    };

    let server = guest(world, &network, &keys, LISTEN, SERVER);
    server.detach()?;
    server.wait_for_output("ready")?;
    for finished in [
        guest(world, &network, &keys, CONNECT, &script).run()?,
        command::run(native(&script), None)?,
    ] {
        finished.expect_code(0)?.expect_stdout("all held\n")?;
    }
    server.remove()?;

    let server = Running::start(native(SERVER), None)?;
    let asked = wait_for("the native server to be ready", || {
        Ok(server.stdout()?.contains("ready").then_some(()))
    })
    .and_then(|()| guest(world, &network, &keys, CONNECT, &script).run());
    server.end()?;
    asked?.expect_code(0)?.expect_stdout("all held\n")?;
    Ok(())
}

pub(super) fn authorities_are_found_where_the_documentation_says(world: &World) -> Outcome {
    let network = LoopbackNetwork::new(world)?;
    let keys = keys(world)?;
    let server = guest(world, &network, &keys, LISTEN, SERVER);
    server.detach()?;
    server.wait_for_output("ready")?;
    let client = |script: &str| {
        let script = [FETCH, script].concat();
        guest(world, &network, &keys, CONNECT, &script)
    };
    let fetches = r#"assert fetch(ssl.create_default_context()) == "over TLSv1.3""#;
    let refuses = r#"
refused("unable to get local issuer certificate", lambda: fetch(ssl.create_default_context()))
paths = ssl.get_default_verify_paths()
assert paths.capath == "/etc/ssl/certs", paths
# Public authorities, each by its name and all in one file.
context = ssl.create_default_context(cafile="/etc/ssl/certs/ca-certificates.crt")
assert len(context.get_ca_certs()) > 100
assert len(os.listdir("/etc/ssl/certs")) > 100
"#;
    client(refuses).run()?.expect_code(0)?;
    client(fetches)
        .options(&["--env", "SSL_CERT_FILE=/keys/ca.crt"])
        .run()?
        .expect_code(0)?;
    let place = format!("/etc/ssl/certs/{AUTHORITY_FILE}");
    client(fetches)
        .mount(&keys.join("ca.crt"), &place, "bind:ro")
        .run()?
        .expect_code(0)?;
    server.remove()
}

/// With the packages that pip installed.
pub(super) fn requests_and_httpx_speak_tls(world: &World) -> Outcome {
    let network = LoopbackNetwork::new(world)?;
    let keys = keys(world)?;
    let server = guest(world, &network, &keys, LISTEN, SERVER);
    server.detach()?;
    server.wait_for_output("ready")?;
    let script = r#"
import asyncio, ssl, sys
import httpx, requests
folder, port = sys.argv[1:]
url = f"https://127.0.0.1:{port}/"
assert requests.get(url, verify=f"{folder}/ca.crt", timeout=100).text == "over TLSv1.3"
context = ssl.create_default_context(cafile=f"{folder}/ca.crt")
assert httpx.get(url, verify=context, timeout=100).text == "over TLSv1.3"
async def fetch():
    async with httpx.AsyncClient(verify=context, timeout=100) as client:
        return (await client.get(url)).text
assert asyncio.run(fetch()) == "over TLSv1.3"
for get, error in (requests.get, requests.exceptions.SSLError), (httpx.get, httpx.ConnectError):
    try:
        get(url, timeout=100)
    except error as refusal:
        assert "unable to get local issuer certificate" in str(refusal), refusal
    else:
        raise AssertionError(f"{get} trusts anybody")
"#;
    guest(world, &network, &keys, CONNECT, script)
        .options(&["--env", "PYTHONPATH=/packages"])
        .mount(world.python_packages(), "/packages", "rbind:ro")
        .run()?
        .expect_code(0)?;
    server.remove()
}
