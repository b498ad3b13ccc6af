use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

/// Who an application is, as programs find it in `/etc`.
#[derive(Clone, Copy, Debug)]
pub struct Account<'a> {
    /// Its user and group id.
    pub id: u32,
    /// Its home folder.
    pub home: &'a str,
    /// Its host name.
    pub hostname: &'a str,
    /// Its address, if it has one.
    pub address: Option<Ipv4Addr>,
    /// The name servers it asks.
    pub nameservers: &'a [IpAddr],
}

impl Account<'_> {
    /// The files that tell so, for [`crate::Root::files`]: users and groups (not for an image, which has its own), and names on the
    /// network, which every application needs.
    pub fn files(&self) -> BTreeMap<PathBuf, String> {
        let Self { id, home, .. } = self;
        let passwd = format!(
            "root:x:0:0:root:/root:/usr/sbin/nologin\n\
             app:x:{id}:{id}::{home}:/bin/sh\n\
             nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
        );
        let mut files = self.network_files();
        files.insert("/etc/passwd".into(), passwd);
        files.insert(
            "/etc/group".into(),
            format!("root:x:0:\napp:x:{id}:\nnogroup:x:65534:\n"),
        );
        files
    }

    /// Those of [`Account::files`] that tell names on the network.
    pub fn network_files(&self) -> BTreeMap<PathBuf, String> {
        let Self { hostname, .. } = self;
        let mut hosts =
            "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n".to_owned();
        let own = self.address.unwrap_or(Ipv4Addr::LOCALHOST);
        writeln!(hosts, "{own} {hostname}").expect("a string takes everything");
        let servers = self
            .nameservers
            .iter()
            .map(|server| format!("nameserver {server}\n"));
        BTreeMap::from([
            ("/etc/hosts".into(), hosts),
            ("/etc/hostname".into(), format!("{hostname}\n")),
            ("/etc/resolv.conf".into(), servers.collect()),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_finds_itself_by_id_and_by_name() {
        let account = Account {
            id: 20_001,
            home: "/app",
            hostname: "shop",
            address: Some(Ipv4Addr::new(10, 208, 0, 2)),
            nameservers: &[IpAddr::from([9, 9, 9, 9])],
        };
        let files = account.files();
        let contains =
            |path: &str, text: &str| files[&PathBuf::from(path)].lines().any(|line| line == text);
        assert!(contains("/etc/passwd", "app:x:20001:20001::/app:/bin/sh"));
        assert!(contains("/etc/group", "app:x:20001:"));
        assert!(contains("/etc/hosts", "10.208.0.2 shop"));
        assert!(contains("/etc/resolv.conf", "nameserver 9.9.9.9"));
    }
}
