//! Assembles verdicts into one BPF program: first the search for the number, last the checks of arguments.
//!
//! It is built from its end to its beginning, because BPF only jumps forward: jump targets then exist
//! already. The search uses only instructions that the kernel can evaluate in advance
//! (`seccomp_is_const_allow` in kernel/seccomp.c, since Linux 5.11): for system calls that are allowed
//! independent of their arguments, the program is then never run.

use crate::MAX_INSTRUCTIONS;
use crate::arch::Arch;
use crate::error::{Error, Result};
use crate::rules::{Rule, Table, Verdict};
use libc::SECCOMP_RET_KILL_THREAD;
use seccompiler::{BpfProgram, SeccompCmpArgLen, SeccompCondition, SeccompRule, sock_filter};

/// `BPF_LD | BPF_W | BPF_ABS`: loads a word of `struct seccomp_data` into the accumulator.
const LOAD: u16 = 0x20;
/// `BPF_JMP | BPF_JA`.
const JUMP: u16 = 0x05;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
const EQUAL: u16 = 0x15;
/// `BPF_JMP | BPF_JGE | BPF_K`.
const AT_LEAST: u16 = 0x35;
/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;

/// The path of errors about all rules.
const PATH: &str = "syscalls";

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;

/// The bit that marks the numbers of x32 system calls.
pub(crate) const X32_BIT: u32 = 0x4000_0000;

/// The program for the architectures of `tables`, the kernel's native one first, because it is the most
/// frequent. All others are killed. System calls newer than all in the profile get `newer`.
pub(crate) fn assemble(
    tables: &[Table],
    default: u32,
    newer: u32,
) -> Result<Vec<libc::sock_filter>> {
    let gaps = Gaps { default, newer };
    let x32 = tables.iter().find(|table| table.arch == Arch::X32);
    let mut searches = Vec::new();
    for table in tables.iter().filter(|table| table.arch != Arch::X32) {
        searches.push((table.arch.audit(), ranges(table, x32, &gaps)?));
    }
    let mut program = Assembler::default();
    // Added first, so last in the program: seccompiler's rules begin with a jump that is never taken, but
    // must have a valid target.
    let killed = program.ret(SECCOMP_RET_KILL_THREAD);
    let targets = searches.iter().flat_map(|(_, ranges)| ranges).map(|range| &range.target);
    for body in targets.filter(|target| matches!(target, Target::Body(_))) {
        program.target(body);
    }
    let mut dispatch = killed;
    for (audit, ranges) in searches.iter().rev() {
        let search = program.search(ranges);
        let search = program.load(NUMBER, search);
        dispatch = program.branch(EQUAL, *audit, search, dispatch);
    }
    program.load(ARCH, dispatch);
    program.finish()
}

/// The actions for system calls without a verdict.
struct Gaps {
    default: u32,
    newer: u32,
}

/// System calls from this number up to the next range's.
struct Range {
    start: u32,
    target: Target,
}

#[derive(PartialEq)]
enum Target {
    Return(u32),
    /// Checks arguments, and always returns.
    Body(BpfProgram),
}

/// Covers all numbers; neighbours with the same verdict share one range. x32's system calls arrive as
/// x86_64's with a bit set.
fn ranges(table: &Table, x32: Option<&Table>, gaps: &Gaps) -> Result<Vec<Range>> {
    let mut ranges = Vec::new();
    add_table(&mut ranges, 0, table, gaps)?;
    match (table.arch, x32) {
        (Arch::X86_64, Some(x32)) => add_table(&mut ranges, X32_BIT, x32, gaps)?,
        (Arch::X86_64, None) => {
            add(&mut ranges, X32_BIT, Target::Return(SECCOMP_RET_KILL_THREAD));
            // A tracer skips a system call by changing its number to -1, which the filter sees.
            add(&mut ranges, u32::MAX, Target::Return(gaps.default));
        }
        _ => {}
    }
    Ok(ranges)
}

fn add_table(ranges: &mut Vec<Range>, base: u32, table: &Table, gaps: &Gaps) -> Result<()> {
    add(ranges, base, Target::Return(gaps.default));
    for (&number, verdict) in &table.verdicts {
        let target = match verdict {
            Verdict::Always(action, _) => Target::Return(*action),
            Verdict::Rules(rules) => Target::Body(body(rules, table.arch, gaps.default)?),
        };
        add(ranges, base + number, target);
        let newer = table.newest > 0 && number >= table.newest;
        let gap = if newer { gaps.newer } else { gaps.default };
        add(ranges, base + number + 1, Target::Return(gap));
    }
    Ok(())
}

/// Tries the rules in order. seccompiler compiles the conditions: if a rule matches, the next instruction is
/// executed, otherwise the one after that.
pub(crate) fn body(rules: &[Rule], arch: Arch, default: u32) -> Result<BpfProgram> {
    let length =
        || if arch.is_64_bit() { SeccompCmpArgLen::Qword } else { SeccompCmpArgLen::Dword };
    let ret = |action| sock_filter { code: RETURN, jt: 0, jf: 0, k: action };
    let invalid = |error: seccompiler::BackendError| Error::new(PATH, error);
    let mut body = Vec::new();
    for rule in rules {
        let conditions = rule.conditions.iter().map(|condition| {
            let (op, value) = (condition.op.clone(), condition.value);
            SeccompCondition::new(condition.index, length(), op, value)
        });
        let conditions = conditions.collect::<std::result::Result<_, _>>().map_err(invalid)?;
        let rule_program = BpfProgram::from(SeccompRule::new(conditions).map_err(invalid)?);
        body.extend(rule_program);
        body.push(ret(rule.action));
    }
    body.push(ret(default));
    Ok(body)
}

/// Sets the target for everything from `start` on, until the next call.
fn add(ranges: &mut Vec<Range>, start: u32, target: Target) {
    if ranges.last().is_some_and(|last| last.start == start) {
        ranges.pop();
    }
    if ranges.last().is_none_or(|last| last.target != target) {
        ranges.push(Range { start, target });
    }
}

/// The position of an instruction, as the number of instructions after it.
type Label = usize;

#[derive(Default)]
struct Assembler {
    /// Instructions in reverse order.
    reversed: BpfProgram,
    /// The latest copy of each return.
    returns: Vec<(u32, Label)>,
    bodies: Vec<(BpfProgram, Label)>,
}

impl Assembler {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(sock_filter { code, jt, jf, k });
        self.reversed.len() - 1
    }

    /// The number of instructions that a new first instruction would have to skip.
    fn distance(&self, to: Label) -> usize {
        self.reversed.len() - 1 - to
    }

    /// Returns the action: an existing copy within reach of a short jump, or a new one.
    fn ret(&mut self, action: u32) -> Label {
        let known = self.returns.iter().position(|(known, _)| *known == action);
        if let Some(index) = known {
            let (_, label) = self.returns[index];
            if self.distance(label) <= usize::from(u8::MAX) {
                return label;
            }
            self.returns.swap_remove(index);
        }
        let label = self.push(RETURN, 0, 0, action);
        self.returns.push((action, label));
        label
    }

    /// Makes `to` reachable by a short jump.
    fn trampoline(&mut self, to: Label) -> Label {
        match self.reversed[to] {
            sock_filter { code: RETURN, k: action, .. } => self.ret(action),
            _ => self.jump(to),
        }
    }

    /// Compares the accumulator with `k` and continues at `yes` or `no`.
    fn branch(&mut self, code: u16, k: u32, mut yes: Label, mut no: Label) -> Label {
        loop {
            match (u8::try_from(self.distance(yes)), u8::try_from(self.distance(no))) {
                (Ok(jt), Ok(jf)) => return self.push(code, jt, jf, k),
                (Err(_), _) => yes = self.trampoline(yes),
                (_, Err(_)) => no = self.trampoline(no),
            }
        }
    }

    /// Loads a word, and continues at `next`.
    fn load(&mut self, offset: u32, next: Label) -> Label {
        if self.distance(next) > 0 {
            self.jump(next);
        }
        self.push(LOAD, 0, 0, offset)
    }

    fn jump(&mut self, to: Label) -> Label {
        // Larger programs than the kernel accepts are refused at the end.
        let distance = u32::try_from(self.distance(to)).unwrap_or(u32::MAX);
        self.push(JUMP, 0, 0, distance)
    }

    fn target(&mut self, target: &Target) -> Label {
        match target {
            Target::Return(action) => self.ret(*action),
            Target::Body(body) => {
                if let Some((_, label)) = self.bodies.iter().find(|(known, _)| known == body) {
                    return *label;
                }
                self.reversed.extend(body.iter().rev().cloned());
                let label = self.reversed.len() - 1;
                self.bodies.push((body.clone(), label));
                label
            }
        }
    }

    /// Finds the range that contains the accumulator, with a balanced tree of comparisons.
    fn search(&mut self, ranges: &[Range]) -> Label {
        match ranges {
            [] => self.ret(SECCOMP_RET_KILL_THREAD),
            [range] => self.target(&range.target),
            _ => {
                let (low, high) = ranges.split_at(ranges.len() / 2);
                let yes = self.search(high);
                let no = self.search(low);
                self.branch(AT_LEAST, high[0].start, yes, no)
            }
        }
    }

    fn finish(self) -> Result<Vec<libc::sock_filter>> {
        let length = self.reversed.len();
        if length > MAX_INSTRUCTIONS {
            return Err(Error::new(
                PATH,
                format_args!(
                    "the filter has {length} instructions, the maximum is {MAX_INSTRUCTIONS}: use fewer rules with arguments"
                ),
            ));
        }
        let instruction =
            |it: sock_filter| libc::sock_filter { code: it.code, jt: it.jt, jf: it.jf, k: it.k };
        Ok(self.reversed.into_iter().rev().map(instruction).collect())
    }
}
