//! `dunlin tls`: makes the certificates that agents know each other by. Needs no agent.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use dunlin_agent::net::tls::issue::{self, IssueError, Issued, Validity};
use dunlin_agent::net::tls::{Certificate, PeerIdentity, Reason};
use dunlin_core::model::{NodeName, Timestamp, ZoneName};
use serde_json::json;

use crate::context::Context;
use crate::failure::{DONE, Failure, NOT_FOUND};
use crate::output::Table;

const SECONDS_OF_A_DAY: u64 = 24 * 3600;

/// Make and show the certificates that agents know each other by.
#[derive(Debug, Args)]
pub(crate) struct TlsArgs {
    #[command(subcommand)]
    command: TlsCommand,
}

#[derive(Debug, Subcommand)]
enum TlsCommand {
    /// The cluster's authority, which signs the certificates of all agents.
    #[command(subcommand)]
    Ca(CaCommand),
    /// The certificate of one agent.
    #[command(subcommand)]
    Cert(CertCommand),
}

#[derive(Debug, Subcommand)]
enum CaCommand {
    /// Make an authority: ca.crt, which every agent needs, and ca.key, which none does.
    Create(CreateCa),
}

#[derive(Debug, Subcommand)]
enum CertCommand {
    /// Make the certificate and the key of one agent: NODE.crt and NODE.key.
    Create(CreateCert),
    /// Say whose a certificate is, and until when. Exit code 1 if it is not valid now.
    Show {
        /// The certificate, in PEM form.
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
struct CreateCa {
    /// The authority's name, for people.
    #[arg(long, default_value = "dunlin")]
    name: String,
    /// For how many days it is valid.
    #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u64).range(1..=36_500))]
    days: u64,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
struct CreateCert {
    /// The agent's node name, `node.name`.
    #[arg(long, value_parser = NodeName::parse)]
    node: NodeName,
    /// The agent's zone, `node.zone`.
    #[arg(long, value_parser = ZoneName::parse)]
    zone: ZoneName,
    /// An address or name by which clients reach the API with this certificate. Several times for several.
    #[arg(long = "host", value_name = "ADDRESS|NAME")]
    hosts: Vec<String>,
    /// The authority's certificate.
    #[arg(long, value_name = "FILE", default_value = "ca.crt")]
    ca: PathBuf,
    /// The authority's key.
    #[arg(long, value_name = "FILE", default_value = "ca.key")]
    ca_key: PathBuf,
    /// For how many days it is valid; never longer than its authority.
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u64).range(1..=36_500))]
    days: u64,
    #[command(flatten)]
    target: Target,
}

/// Where files are written.
#[derive(Debug, Args)]
struct Target {
    /// The folder to write to; made if it is not there.
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Replace files that are there.
    #[arg(long)]
    force: bool,
}

/// The two files that were written.
struct Written {
    certificate: PathBuf,
    key: PathBuf,
}

pub(crate) fn tls(args: TlsArgs, context: &Context) -> Result<u8> {
    match args.command {
        TlsCommand::Ca(CaCommand::Create(args)) => create_ca(&args, context),
        TlsCommand::Cert(CertCommand::Create(args)) => create_cert(&args, context),
        TlsCommand::Cert(CertCommand::Show { file }) => show(&file, context),
    }
}

fn create_ca(args: &CreateCa, context: &Context) -> Result<u8> {
    let issued = issue::create_ca(&args.name, Validity::days(args.days)).map_err(wrong_use)?;
    let written = args.target.write("ca", &issued)?;
    let until = until(&issued)?;
    if context.out.is_json() {
        context.out.json(&json!({
            "certificate": written.certificate, "key": written.key, "not_after": until,
        }));
        return Ok(DONE);
    }
    let (certificate, key) = (written.certificate.display(), written.key.display());
    context.out.line(format_args!(
        "{certificate}  the authority's certificate, valid until {until}; copy it to every host\n\
         {key}  its key; whoever has it can add agents, so keep it away from the hosts\n\n\
         Next, for each agent:\n  \
         dunlin tls cert create --node NAME --zone ZONE --ca {certificate} --ca-key {key}"
    ));
    Ok(DONE)
}

fn create_cert(args: &CreateCert, context: &Context) -> Result<u8> {
    let ca = read_authority(&args.ca, "--ca")?;
    let ca_key = read_authority(&args.ca_key, "--ca-key")?;
    let (node, zone, validity) = (&args.node, &args.zone, Validity::days(args.days));
    let issued =
        issue::create_certificate_for_hosts(&ca, &ca_key, node, zone, &args.hosts, validity)
            .map_err(wrong_use)?;
    let written = args.target.write(node.as_str(), &issued)?;
    let until = until(&issued)?;
    if context.out.is_json() {
        context.out.json(&json!({
            "certificate": written.certificate, "key": written.key, "ca": args.ca,
            "node": node, "zone": zone, "not_after": until,
        }));
        return Ok(DONE);
    }
    let identity = PeerIdentity { node: node.clone(), zone: zone.clone() };
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let [ca, cert, key] = [&args.ca, &written.certificate, &written.key].map(|p| absolute(p));
    context.out.line(format_args!(
        "{}  the certificate of {identity}, valid until {until}\n\
         {}  its key, for that agent alone\n\n\
         With ca.crt on the agent's host, its dunlin.toml says where they are:\n\
         [cluster.tls]\nca = {ca:?}\ncert = {cert:?}\nkey = {key:?}",
        written.certificate.display(),
        written.key.display(),
    ));
    Ok(DONE)
}

fn show(file: &Path, context: &Context) -> Result<u8> {
    let text = fs::read(file).with_context(|| file.display().to_string())?;
    let certificate = Certificate::read_pem(&text).ok_or_else(|| {
        let message = format!("{} holds no certificate in PEM form", file.display());
        Failure::wrong_use(message, "It begins with -----BEGIN CERTIFICATE-----.")
    })?;
    let now = SystemTime::now();
    let verdict = certificate.check_time(now);
    let days = certificate.left(now).as_secs() / SECONDS_OF_A_DAY;
    let [from, until] = [certificate.not_before, certificate.not_after].map(Timestamp::from_system);
    if context.out.is_json() {
        let identity = certificate.identity.as_ref().ok();
        context.out.json(&json!({
            "node": identity.map(|i| &i.node), "zone": identity.map(|i| &i.zone),
            "authority": certificate.is_authority, "subject": certificate.subject,
            "issuer": certificate.issuer, "not_before": from.to_string(),
            "not_after": until.to_string(), "days_left": days, "valid": verdict.is_ok(),
        }));
    } else {
        context.out.line(describe(&certificate, &verdict, days).render());
    }
    Ok(if verdict.is_ok() { DONE } else { NOT_FOUND })
}

fn describe(certificate: &Certificate, verdict: &Result<(), Reason>, days: u64) -> Table {
    let mut table = Table::new(&["WHAT", "FOUND"]);
    let mut row = |what: &str, found: String| table.row([what.to_owned(), found]);
    match &certificate.identity {
        Ok(identity) => {
            row("node", identity.node.to_string());
            row("zone", identity.zone.to_string());
        }
        Err(_) if certificate.is_authority => row("node", "none, an authority".to_owned()),
        Err(reason) => row("node", format!("none: {reason}")),
    }
    row("subject", certificate.subject.clone());
    row("issuer", certificate.issuer.clone());
    row("valid from", Timestamp::from_system(certificate.not_before).to_string());
    row("valid until", Timestamp::from_system(certificate.not_after).to_string());
    row("days left", days.to_string());
    if let Err(reason) = verdict {
        row("not valid", reason.to_string());
    }
    table
}

fn until(issued: &Issued) -> Result<String> {
    let read = Certificate::read_pem(issued.certificate.as_bytes());
    let read = read.context("the new certificate cannot be read; this is a bug")?;
    Ok(Timestamp::from_system(read.not_after).to_string())
}

fn wrong_use(error: IssueError) -> Failure {
    Failure::wrong_use(error.to_string(), "")
}

fn read_authority(path: &Path, option: &str) -> Result<String> {
    fs::read_to_string(path).map_err(|error| {
        let message = format!("{}: {error}", path.display());
        let hint = format!(
            "Name the authority's file with {option}, or make one with `dunlin tls ca create`."
        );
        Failure::wrong_use(message, hint).into()
    })
}

impl Target {
    /// Writes NAME.key and NAME.crt, or neither if one of them is there.
    fn write(&self, name: &str, issued: &Issued) -> Result<Written> {
        let path = |ending: &str| self.out.join(format!("{name}.{ending}"));
        let written = Written { certificate: path("crt"), key: path("key") };
        let paths = [&written.key, &written.certificate];
        if let Some(there) = paths.iter().find(|p| !self.force && p.symlink_metadata().is_ok()) {
            let message = format!("{} is there already", there.display());
            let hint = "Nothing was written. Choose another folder with --out, or replace it with --force.";
            return Err(Failure::wrong_use(message, hint).into());
        }
        fs::create_dir_all(&self.out).with_context(|| self.out.display().to_string())?;
        for (path, text, mode) in
            [(&written.key, &issued.key, 0o600), (&written.certificate, &issued.certificate, 0o644)]
        {
            write_whole(path, text, mode).with_context(|| path.display().to_string())?;
        }
        Ok(written)
    }
}

/// Writes a file under another name and renames it, so that an agent that watches it never reads half of it.
pub(super) fn write_whole(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_its_owners_alone_and_nothing_is_overwritten_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let mut target = Target { out: folder.path().join("pki"), force: false };
        let ca = issue::create_ca("test", Validity::days(1)).unwrap();
        let written = target.write("ca", &ca).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&written.key), 0o600);
        assert_eq!(fs::read_to_string(&written.certificate).unwrap(), ca.certificate);
        fs::remove_file(&written.key).unwrap();
        let error = target.write("ca", &ca).err().unwrap().to_string();
        assert!(error.ends_with("ca.crt is there already"), "{error}");
        assert!(!written.key.exists(), "neither was written");
        target.force = true;
        target.write("ca", &ca).unwrap();
        assert_eq!(fs::read_dir(&target.out).unwrap().count(), 2);
    }

    #[test]
    fn a_certificate_is_described_with_what_is_wrong_about_it() {
        let ca = issue::create_ca("test", Validity::days(1)).unwrap();
        let (node, zone) = (NodeName::parse("web-1").unwrap(), ZoneName::parse("eu1").unwrap());
        let day = std::time::Duration::from_secs(SECONDS_OF_A_DAY);
        let now = SystemTime::now();
        let over = Validity { not_before: now - 3 * day, not_after: now - day };
        let issued =
            issue::create_certificate(&ca.certificate, &ca.key, &node, &zone, over).unwrap();
        let read = Certificate::read_pem(issued.certificate.as_bytes()).unwrap();
        let text = describe(&read, &read.check_time(now), 0).render();
        for part in ["node         web-1", "zone         eu1", "issuer       CN=test", "expired on"]
        {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let authority = Certificate::read_pem(ca.certificate.as_bytes()).unwrap();
        assert!(describe(&authority, &Ok(()), 1).render().contains("none, an authority"));
    }
}
