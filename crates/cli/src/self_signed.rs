//! The certificate of `fanfare dev --tls`: made anew at each start, for the names of this machine, and written to a
//! file that clients can be told to trust. The key is written nowhere.

use crate::failure::Failure;
use crate::flags::random_key;
use fanfare::{Address, Tls};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, date_time_ymd};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: Duration = Duration::from_secs(24 * 3_600);
/// Some clients refuse a certificate that is valid for longer.
const VALID_DAYS: u32 = 397;

/// The certificate's file, removed with this value.
pub(crate) struct CertificateFile(PathBuf);

impl CertificateFile {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for CertificateFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0); // somebody may have done it
    }
}

/// For `localhost`, the loopback addresses and the addresses that are listened on.
pub(crate) fn self_signed(listen: &[Address]) -> Result<(Tls, CertificateFile), Failure> {
    let failed = |error: String| Failure::ours(format!("no certificate could be made: {error}"));
    let params = params(names(listen), SystemTime::now()).map_err(|error| failed(error.to_string()))?;
    let key = KeyPair::generate().map_err(|error| failed(error.to_string()))?;
    let pem = params.self_signed(&key).map_err(|error| failed(error.to_string()))?.pem();
    let tls = Tls::from_pem(pem.as_bytes(), key.serialize_pem().as_bytes());
    Ok((tls.map_err(|error| failed(error.to_string()))?, write(&pem)?))
}

fn names(listen: &[Address]) -> Vec<String> {
    let addresses = listen.iter().filter_map(|address| match address {
        Address::Tcp(address) if !address.ip().is_unspecified() => Some(address.ip().to_string()),
        Address::Tcp(_) | Address::Unix(_) => None,
    });
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    for address in addresses {
        if !names.contains(&address) {
            names.push(address);
        }
    }
    names
}

fn params(names: Vec<String>, now: SystemTime) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "fanfare dev");
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    // A day ago: clocks of containers and phones differ.
    params.not_before = date_time_ymd(1970, 1, 1) + now.saturating_sub(DAY);
    params.not_after = date_time_ymd(1970, 1, 1) + now.saturating_sub(DAY) + DAY * VALID_DAYS;
    Ok(params)
}

/// In the user's own folder for such files, or that of temporary ones. The name is new, so that nobody can have laid a
/// link there.
fn write(pem: &str) -> Result<CertificateFile, Failure> {
    let folder = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|folder| folder.is_dir());
    let folder = folder.unwrap_or_else(std::env::temp_dir);
    let random = random_key()?;
    let path = folder.join(format!("fanfare-dev-{}.pem", &random[..12]));
    let failed = |error: std::io::Error| {
        Failure::users(format!("cannot write the certificate to {}: {error}", path.display()))
            .hint("TMPDIR names the folder for temporary files")
    };
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
    let file_of = CertificateFile(path.clone());
    file.write_all(pem.as_bytes()).map_err(failed)?;
    Ok(file_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_for_this_machine_and_for_a_year() {
        let listen = ["127.0.0.1:8080", "0.0.0.0:1", "192.0.2.7:443", "unix:/a"];
        let names = names(&listen.map(|text| text.parse().expect("an address")));
        assert_eq!(names, ["localhost", "127.0.0.1", "::1", "192.0.2.7"]);
        let now = UNIX_EPOCH + DAY * 20_000;
        let params = params(names, now).expect("good names");
        assert!((params.not_after - params.not_before).whole_days() == 397, "{params:?}");
        assert!(params.not_before < date_time_ymd(1970, 1, 1) + DAY * 20_000, "{params:?}");
    }
}
