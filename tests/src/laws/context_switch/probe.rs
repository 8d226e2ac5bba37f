//! Assembly that looks at a switch from both sides.

use std::arch::naked_asm;

use gvt_traits::{ContextSwitch, Registers};

/// A switch as a function, so that assembly can call it.
pub(super) type Switch = unsafe extern "C" fn(*mut Registers, *const Registers);

/// `X`'s switch as a function.
pub(super) unsafe extern "C" fn switch<X: ContextSwitch>(save: *mut Registers, load: *const Registers) {
    // SAFETY: the caller's.
    unsafe { X::switch(save, load) }
}

/// What the callee-saved registers hold while [`probe`] switches.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Pattern {
    /// rbx, rbp, r12–r15.
    pub(super) general: [u64; 6],
    pub(super) mxcsr: u32,
    pub(super) x87: u16,
}

/// MXCSR as the ABI has it at a process's start.
pub(super) const MXCSR_DEFAULT: u32 = 0x1F80;
/// The x87 control word as the ABI has it at a process's start.
pub(super) const X87_DEFAULT: u16 = 0x037F;
/// MXCSR's bits that calls keep.
pub(super) const MXCSR_CONTROL: u32 = 0xFFC0;

impl Pattern {
    /// Six distinct values made from `seed`, under the default control words.
    pub(super) fn new(seed: u8) -> Self {
        let general = std::array::from_fn(|index| {
            u64::from_le_bytes([seed; 8]) ^ (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        });
        Pattern { general, mxcsr: MXCSR_DEFAULT, x87: X87_DEFAULT }
    }

    /// The same under other control words.
    pub(super) fn under(self, mxcsr: u32, x87: u16) -> Self {
        Pattern { mxcsr, x87, ..self }
    }
}

/// What [`probe`] found changed, one bit a register.
pub(super) fn names(changed: u64) -> String {
    const NAMES: [&str; 8] =
        ["rbx", "rbp", "r12", "r13", "r14", "r15", "MXCSR (control bits)", "x87 control word"];
    let changed: Vec<_> = NAMES
        .into_iter()
        .enumerate()
        .filter(|(bit, _)| changed >> bit & 1 == 1)
        .map(|(_, name)| name)
        .collect();
    changed.join(", ")
}

/// Calls `switch(save, load)` with `pattern` in the callee-saved registers; returns a bit for each
/// of them that was another afterwards, in the order of [`names`].
#[unsafe(naked)]
pub(super) unsafe extern "C" fn probe(
    switch: Switch,
    save: *mut Registers,
    load: *const Registers,
    pattern: *const Pattern,
) -> u64 {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        // [rsp] pattern, [rsp + 8] own MXCSR and control word, [rsp + 16] those found.
        "sub rsp, 24",
        "mov [rsp], rcx",
        "stmxcsr [rsp + 8]",
        "fnstcw [rsp + 12]",
        "mov rax, rdi",
        "mov rdi, rsi",
        "mov rsi, rdx",
        "mov rbx, [rcx]",
        "mov rbp, [rcx + 0x08]",
        "mov r12, [rcx + 0x10]",
        "mov r13, [rcx + 0x18]",
        "mov r14, [rcx + 0x20]",
        "mov r15, [rcx + 0x28]",
        "ldmxcsr [rcx + 0x30]",
        "fldcw [rcx + 0x34]",
        "call rax",
        "mov rcx, [rsp]",
        "xor eax, eax",
        "xor edx, edx",
        "cmp rbx, [rcx]",
        "setne al",
        "cmp rbp, [rcx + 0x08]",
        "setne dl",
        "lea eax, [rax + 2 * rdx]",
        "cmp r12, [rcx + 0x10]",
        "setne dl",
        "lea eax, [rax + 4 * rdx]",
        "cmp r13, [rcx + 0x18]",
        "setne dl",
        "lea eax, [rax + 8 * rdx]",
        "cmp r14, [rcx + 0x20]",
        "setne dl",
        "shl edx, 4",
        "or eax, edx",
        "xor edx, edx",
        "cmp r15, [rcx + 0x28]",
        "setne dl",
        "shl edx, 5",
        "or eax, edx",
        "stmxcsr [rsp + 16]",
        "mov edx, [rsp + 16]",
        "xor edx, [rcx + 0x30]",
        "and edx, 0xFFC0",
        "neg edx",
        "sbb edx, edx",
        "and edx, 64",
        "or eax, edx",
        "fnstcw [rsp + 20]",
        "movzx edx, word ptr [rsp + 20]",
        "cmp dx, [rcx + 0x34]",
        "setne dl",
        "movzx edx, dl",
        "shl edx, 7",
        "or eax, edx",
        "ldmxcsr [rsp + 8]",
        "fldcw [rsp + 12]",
        "add rsp, 24",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
    )
}

/// What [`first_instruction`] found.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Arrival {
    pub(super) rsp: u64,
    pub(super) argument: u64,
    pub(super) mxcsr: u32,
    pub(super) x87: u16,
    pub(super) flags: u64,
    /// Goes on; called on the fresh stack, aligned.
    pub(super) then: Option<unsafe extern "C" fn() -> !>,
}

/// The direction flag in [`Arrival::flags`].
pub(super) const DIRECTION_FLAG: u64 = 1 << 10;

/// Where [`first_instruction`] writes; not through its argument, which may be wrong.
///
/// Touched by one law, under that law's lock.
pub(super) static mut ARRIVAL: Arrival =
    Arrival { rsp: 0, argument: 0, mxcsr: 0, x87: 0, flags: 0, then: None };

/// An [`Entry`](gvt_traits::Entry) that records in [`ARRIVAL`] how it was called.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn first_instruction(argument: *mut ()) -> ! {
    naked_asm!(
        "lea rax, [rip + {arrival}]",
        "mov [rax], rsp",
        "mov [rax + 0x08], rdi",
        "stmxcsr [rax + 0x10]",
        "fnstcw [rax + 0x14]",
        "and rsp, -16",
        "pushfq",
        "pop qword ptr [rax + 0x18]",
        "cld",
        "call [rax + 0x20]",
        "ud2",
        arrival = sym ARRIVAL,
    )
}

const _: () = {
    use std::mem::offset_of;
    assert!(offset_of!(Pattern, mxcsr) == 0x30 && offset_of!(Pattern, x87) == 0x34);
    assert!(offset_of!(Arrival, argument) == 0x08 && offset_of!(Arrival, mxcsr) == 0x10);
    assert!(offset_of!(Arrival, x87) == 0x14 && offset_of!(Arrival, flags) == 0x18);
    assert!(offset_of!(Arrival, then) == 0x20);
};
