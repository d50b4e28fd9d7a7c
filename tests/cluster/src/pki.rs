//! Keys and certificates, made for each cluster: one authority, and one certificate per
//! role with the names that Kubernetes' own authorisation expects.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::json;

use crate::Outcome;

/// The authority, and the folder of its files.
pub(crate) struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// Files of a private key and of what others know of it.
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    /// Makes one, and the key pair that signs service accounts' tokens.
    pub(crate) fn create(folder: &Path) -> Outcome<Self> {
        fs::create_dir_all(folder)?;
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "wasm-interp-e2e");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate()?;
        let certificate: Certificate = params.self_signed(&key)?;
        fs::write(folder.join("ca.crt"), certificate.pem())?;
        let tokens = KeyPair::generate()?;
        fs::write(folder.join("service-accounts.key"), tokens.serialize_pem())?;
        fs::write(folder.join("service-accounts.pub"), tokens.public_key_pem())?;
        Ok(Self {
            folder: folder.to_owned(),
            issuer: Issuer::new(params, key),
        })
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// What signs service accounts' tokens.
    pub(crate) fn service_accounts(&self) -> Identity {
        Identity {
            certificate: self.folder.join("service-accounts.pub"),
            key: self.folder.join("service-accounts.key"),
        }
    }

    /// A certificate for `user` of `group`, good for a client and for a server at `addresses`.
    pub(crate) fn issue(
        &self,
        user: &str,
        group: &str,
        names: &[&str],
        addresses: &[IpAddr],
    ) -> Outcome<Identity> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params
            .subject_alt_names
            .extend(addresses.iter().copied().map(SanType::IpAddress));
        params.distinguished_name.push(DnType::CommonName, user);
        params
            .distinguished_name
            .push(DnType::OrganizationName, group);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let stem = user.replace(':', "-");
        let identity = Identity {
            certificate: self.folder.join(format!("{stem}.crt")),
            key: self.folder.join(format!("{stem}.key")),
        };
        fs::write(&identity.certificate, certificate.pem())?;
        fs::write(&identity.key, key.serialize_pem())?;
        Ok(identity)
    }

    /// A kubeconfig that holds all it needs, for `user` of `group`.
    pub(crate) fn kubeconfig(&self, server: &str, user: &str, group: &str) -> Outcome<PathBuf> {
        let identity = self.issue(user, group, &[], &[])?;
        let text = |path: &Path| -> Outcome<String> { Ok(fs::read_to_string(path)?) };
        let base64 = |pem: String| encode(pem.as_bytes());
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "e2e", "cluster": {
                "server": server,
                "certificate-authority-data": base64(text(&self.certificate())?),
            }}],
            "users": [{ "name": user, "user": {
                "client-certificate-data": base64(text(&identity.certificate)?),
                "client-key-data": base64(text(&identity.key)?),
            }}],
            "contexts": [{ "name": "e2e", "context": { "cluster": "e2e", "user": user }}],
            "current-context": "e2e",
        });
        let path = self
            .folder
            .join(format!("{}.kubeconfig", user.replace(':', "-")));
        fs::write(&path, config.to_string())?;
        Ok(path)
    }
}

/// Base64, as kubeconfigs want their PEM.
fn encode(bytes: &[u8]) -> String {
    k8s_openapi::serde_json::to_value(k8s_openapi::ByteString(bytes.to_vec()))
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}
