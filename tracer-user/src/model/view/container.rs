//! Which container a process is in, by the path of its control group.

use super::Visible;
use serde::{Deserialize, Serialize};

/// Hexadecimal digits of the ids that docker, podman, containerd and CRI-O give.
const ID: usize = 64;
/// Of these, what a person is shown, as by `docker ps`.
const SHOWN: usize = 12;

/// A container as its runtime calls it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container(Visible);

impl Container {
    /// The container that a control group is of; of one within another the inner one.
    pub(in crate::model) fn of(path: &[u8]) -> Option<Self> {
        let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        (0..parts.len()).rev().find_map(|at| {
            let above = at.checked_sub(1).map_or(&b""[..], |above| parts[above]);
            by_id(parts[at]).or_else(|| by_name(above, parts[at]))
        })
    }

    /// Its id where it has one, else its name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0
    }

    /// The same, short enough for a sentence.
    #[must_use]
    pub fn short(&self) -> &str {
        match self.0.len() {
            ID if is_hex(self.0.as_bytes()) => &self.0[..SHOWN],
            _ => &self.0,
        }
    }
}

/// `<id>`, `docker-<id>.scope`, `cri-containerd-<id>.scope`, `libpod-<id>`, `…:cri-containerd:<id>`.
fn by_id(part: &[u8]) -> Option<Container> {
    let part = part.strip_suffix(b".scope").unwrap_or(part);
    let (before, id) = part.split_at_checked(part.len().checked_sub(ID)?)?;
    let apart = matches!(before.last(), None | Some(b'-' | b':'));
    // The monitor of a container has a group of its own, outside.
    let monitor = before.ends_with(b"conmon-");
    (apart && !monitor && is_hex(id)).then(|| Container(Visible::new(id)))
}

/// `lxc.payload.<name>`, before LXC 4 `lxc/<name>`; `machine.slice/machine-<name>.scope` and
/// `machine.slice/systemd-nspawn@<name>.service` of systemd.
fn by_name(above: &[u8], part: &[u8]) -> Option<Container> {
    let name = match above {
        b"lxc" | b"lxc.payload" => Some(part),
        b"machine.slice" => part
            .strip_prefix(b"machine-")
            .and_then(|rest| rest.strip_suffix(b".scope"))
            // A virtual machine: who has such a group runs outside it.
            .filter(|name| !name.starts_with(b"qemu"))
            .or_else(|| {
                part.strip_prefix(b"systemd-nspawn@")?
                    .strip_suffix(b".service")
            }),
        _ => part.strip_prefix(b"lxc.payload."),
    };
    let name = name.filter(|name| !name.is_empty())?;
    Some(Container(Visible::new(&unescaped(name))))
}

/// systemd writes a dash within a name as `\x2d` (systemd.unit(5)).
fn unescaped(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [first, after @ ..] = rest {
        match rest {
            [b'\\', b'x', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                out.push(digit(*high) << 4 | digit(*low));
                rest = after;
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

fn digit(hex: u8) -> u8 {
    match hex {
        b'0'..=b'9' => hex - b'0',
        _ => (hex | 0x20) - b'a' + 10,
    }
}

fn is_hex(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "3f2a9c0d1e4b5a69788796a5b4c3d2e1f00112233445566778899aabbccddeef";

    fn id(path: &str) -> Option<String> {
        let path = path.replace("<id>", HEX);
        Container::of(path.as_bytes()).map(|container| container.id().to_owned())
    }

    #[test]
    fn every_runtime_puts_the_id_into_the_path() {
        for path in [
            "/docker/<id>",
            "/system.slice/docker-<id>.scope",
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-<id>.scope/container",
            "/machine.slice/libpod-<id>.scope",
            "/libpod_parent/libpod-<id>",
            "/kubepods/besteffort/pod0c1f0b3e-8a3c-4c55-9b53-2f8f3a1c7e11/<id>",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-<id>.scope",
            "/kubepods.slice/kubepods-pod1.slice/crio-<id>.scope",
            "/system.slice/containerd.service/kubepods-burstable-pod1.slice:cri-containerd:<id>",
            "/docker/<id>/system.slice/ssh.service",
        ] {
            assert_eq!(id(path).as_deref(), Some(HEX), "{path}");
        }
    }

    #[test]
    fn some_have_names() {
        assert_eq!(id("/lxc.payload.web/init.scope").as_deref(), Some("web"));
        assert_eq!(id("/lxc/web").as_deref(), Some("web"));
        assert_eq!(id("/lxc.payload/web").as_deref(), Some("web"));
        assert_eq!(
            id(r"/machine.slice/machine-build\x2dbox.scope/payload").as_deref(),
            Some("build-box")
        );
        assert_eq!(
            id("/machine.slice/systemd-nspawn@box.service/payload").as_deref(),
            Some("box")
        );
    }

    #[test]
    fn the_inner_of_two_is_told() {
        let inner = HEX.replace('3', "4");
        assert_eq!(
            id(&format!("/lxc.payload.outer/docker/{inner}")),
            Some(inner)
        );
    }

    #[test]
    fn the_host_and_what_serves_containers_are_in_none() {
        for path in [
            "",
            "/",
            "/user.slice/user-1000.slice/session-4.scope",
            "/system.slice/ssh.service",
            "/system.slice/docker.service",
            "/machine.slice/libpod-conmon-<id>.scope",
            "/kubepods.slice/crio-conmon-<id>.scope",
            "/lxc.monitor.web",
            "/lxc.payload.",
            r"/machine.slice/machine-qemu\x2d1\x2dvm.scope",
            "/x<id>",
            "/docker/3f2a9c",
            "/docker/3F2A9C0D1E4B5A69788796A5B4C3D2E1F00112233445566778899AABBCCDDEEF",
        ] {
            assert_eq!(id(path), None, "{path}");
        }
    }

    #[test]
    fn an_id_is_shown_short_and_a_name_whole_and_harmless() {
        let short = |path: &str| {
            Container::of(path.replace("<id>", HEX).as_bytes())
                .map(|container| container.short().to_owned())
        };
        assert_eq!(short("/docker/<id>").as_deref(), Some("3f2a9c0d1e4b"));
        assert_eq!(
            short("/lxc.payload.a-long-name").as_deref(),
            Some("a-long-name")
        );
        assert_eq!(
            short("/machine.slice/machine-\\x1b[2J.scope").as_deref(),
            Some("\\u{1b}[2J")
        );
    }
}
