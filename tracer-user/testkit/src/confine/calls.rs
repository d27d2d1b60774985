//! The system calls that a unit allows, as filters for the kernel.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use anyhow::{Context as _, bail};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use syscalls::Sysno;

use super::Unit;

const EPERM: SeccompAction = SeccompAction::Errno(libc::EPERM as u32);
/// Of unshare(2) and clone(2).
const NAMESPACES: [libc::c_int; 8] = [
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWTIME,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
];
const FAMILIES: [(&str, libc::c_int); 4] = [
    ("AF_UNIX", libc::AF_UNIX),
    ("AF_INET", libc::AF_INET),
    ("AF_INET6", libc::AF_INET6),
    ("AF_NETLINK", libc::AF_NETLINK),
];

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Each must let a call pass. All but the first call refuses what it lists.
pub(super) fn filters(unit: &Unit) -> anyhow::Result<Vec<BpfProgram>> {
    if unit.values("SystemCallArchitectures").last() != Some("native") {
        bail!("only SystemCallArchitectures=native is known to this test");
    }
    let allowed = allowed(unit)?
        .into_iter()
        .map(|call| (call.id().into(), Vec::new()));
    let refused = refused(unit)?;
    Ok(vec![
        compile(refused, SeccompAction::Allow, EPERM)?,
        compile(allowed.collect(), EPERM, SeccompAction::Allow)?,
    ])
}

fn compile(
    rules: Rules,
    otherwise: SeccompAction,
    listed: SeccompAction,
) -> anyhow::Result<BpfProgram> {
    let arch = std::env::consts::ARCH.try_into()?;
    Ok(SeccompFilter::new(rules, otherwise, listed, arch)?.try_into()?)
}

/// `SystemCallFilter=`: each line adds calls, or takes some away.
fn allowed(unit: &Unit) -> anyhow::Result<BTreeSet<Sysno>> {
    // execve(2) is how we become the command: systemd too is allowed it. So it is with what libc
    // needs to end (systemd.exec(5)).
    let mut allowed = expanded("@default")?;
    allowed.insert(Sysno::execve);
    for line in unit.values("SystemCallFilter") {
        let (is_taken, names) = match line.strip_prefix('~') {
            Some(names) => (true, names),
            None => (false, line),
        };
        for name in names.split_whitespace() {
            for call in expanded(name)? {
                match is_taken {
                    true => allowed.remove(&call),
                    false => allowed.insert(call),
                };
            }
        }
    }
    Ok(allowed)
}

/// The calls that a name or a set stands for; those of other processors are left out.
fn expanded(name: &str) -> anyhow::Result<BTreeSet<Sysno>> {
    if !name.starts_with('@') {
        let call = name
            .parse()
            .ok()
            .with_context(|| format!("no system call is called {name}"))?;
        return Ok(BTreeSet::from([call]));
    }
    let output = Command::new("systemd-analyze")
        .args(["syscall-filter", name])
        .output()
        .context("systemd-analyze, which knows the sets of system calls")?;
    if !output.status.success() {
        bail!("systemd-analyze knows no {name}");
    }
    let text = String::from_utf8(output.stdout)?;
    let mut calls = BTreeSet::new();
    for word in text.lines().skip(1).map(str::trim) {
        if word.starts_with('@') {
            calls.extend(expanded(word)?);
        } else {
            calls.extend(word.parse::<Sysno>());
        }
    }
    Ok(calls)
}

/// What the unit refuses by arguments.
fn refused(unit: &Unit) -> anyhow::Result<Rules> {
    let mut rules = Rules::new();
    let mut refuse = |call: Sysno, conditions: &[(u8, SeccompCmpOp, u64)]| -> anyhow::Result<()> {
        let conditions = conditions.iter().cloned().map(|(argument, is, value)| {
            SeccompCondition::new(argument, SeccompCmpArgLen::Qword, is, value)
        });
        let rule = SeccompRule::new(conditions.collect::<Result<_, _>>()?)?;
        rules.entry(call.id().into()).or_default().push(rule);
        Ok(())
    };
    let has = |bits: libc::c_int| (SeccompCmpOp::MaskedEq(bits as u64), bits as u64);
    if unit.is_on("MemoryDenyWriteExecute") {
        let (is, value) = has(libc::PROT_WRITE | libc::PROT_EXEC);
        refuse(Sysno::mmap, &[(2, is, value)])?;
        let (is, value) = has(libc::PROT_EXEC);
        refuse(Sysno::mprotect, &[(2, is.clone(), value)])?;
        refuse(Sysno::pkey_mprotect, &[(2, is, value)])?;
    }
    if unit.is_on("RestrictNamespaces") {
        for namespace in NAMESPACES {
            let (is, value) = has(namespace);
            refuse(Sysno::unshare, &[(0, is.clone(), value)])?;
            // Where time has its bit, clone(2) has the signal at the end (clone(2)).
            if namespace != libc::CLONE_NEWTIME {
                refuse(Sysno::clone, &[(0, is, value)])?;
            }
        }
        refuse(Sysno::setns, &[(1, SeccompCmpOp::Ge, 0)])?;
    }
    if unit.is_on("RestrictRealtime") {
        refuse(Sysno::sched_setscheduler, &[(1, SeccompCmpOp::Gt, 0)])?;
    }
    if unit.is_on("LockPersonality") {
        refuse(Sysno::personality, &[(0, SeccompCmpOp::Ne, 0)])?;
    }
    let families: Vec<&str> = unit.words("RestrictAddressFamilies").collect();
    if !families.is_empty() {
        let mut others = Vec::new();
        for family in families {
            let known = FAMILIES.iter().find(|(name, _)| *name == family);
            let (_, number) =
                known.with_context(|| format!("{family} is not known to this test"))?;
            others.push((0, SeccompCmpOp::Ne, *number as u64));
        }
        refuse(Sysno::socket, &others)?;
    }
    Ok(rules)
}
