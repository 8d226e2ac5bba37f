//! An OS thread that holds known values in every register and does nothing else.

use std::arch::naked_asm;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// What [`Width::hold`] found in the registers at its end.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Found {
    general: [u64; 13],
    flags: u64,
    red_zone: [u64; 16],
    mxcsr: u32,
    x87_control: u16,
    x87: [f64; 2],
    opmask: [u64; 8],
    unused: [u64; 7],
    vectors: [[u8; 64]; 32],
}

/// Carry, parity, adjust, zero, sign, direction, overflow: all set.
const FLAGS: u64 = 0xCD5;
const GENERAL: [u64; 13] = {
    let mut values = [0; 13];
    let mut index = 0;
    while index < 13 {
        values[index] = 0x0101_0101_0101_0101 * (index as u64 + 0x31);
        index += 1;
    }
    values
};
const RED_ZONE: u64 = 0x5EED_0123_4567_89AB;
const MXCSR: u32 = 0x7F80;
const X87_CONTROL: u16 = 0x0F7F;

/// How wide the processor's vectors are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// 16 registers of 16 bytes.
    Sse,
    /// 16 of 32.
    Avx,
    /// 32 of 64, and masks.
    Avx512,
}

macro_rules! spinner {
    ($name:ident, [$($load:literal),*], [$($store:literal),*]) => {
        /// Holds all registers until `*stop` is not 0. `vectors` are 32 times 64 bytes.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(stop: *const AtomicU32, vectors: *const u8, found: *mut Found, general: *const u64) {
            naked_asm!(
                "push rbx",
                "push rbp",
                "push r12",
                "push r13",
                "push r14",
                "push r15",
                "sub rsp, 24",
                // [rsp] found, [rsp + 8] the caller's control words, [rsp + 16] ours.
                "mov [rsp], rdx",
                "stmxcsr [rsp + 8]",
                "fnstcw [rsp + 12]",
                "mov dword ptr [rsp + 16], 0x7F80",
                "mov word ptr [rsp + 20], 0x0F7F",
                "ldmxcsr [rsp + 16]",
                "fldcw [rsp + 20]",
                "fld1",
                "fldpi",
                $($load,)*
                "push 0xCD5",
                "popfq",
                "mov rax, 0x5EED0123456789AB",
                ".irp i,16,15,14,13,12,11,10,9,8,7,6,5,4,3,2,1",
                "mov [rsp - 8 * \\i], rax",
                ".endr",
                "mov rax, [rcx]",
                "mov rbx, [rcx + 8]",
                "mov rdx, [rcx + 16]",
                "mov rsi, [rcx + 24]",
                "mov rbp, [rcx + 32]",
                "mov r8, [rcx + 40]",
                "mov r9, [rcx + 48]",
                "mov r10, [rcx + 56]",
                "mov r11, [rcx + 64]",
                "mov r12, [rcx + 72]",
                "mov r13, [rcx + 80]",
                "mov r14, [rcx + 88]",
                "mov r15, [rcx + 96]",
                // Neither of these touches a flag.
                "2:",
                "mov ecx, [rdi]",
                "jrcxz 2b",
                "mov rcx, [rsp]",
                "mov [rcx], rax",
                "mov [rcx + 8], rbx",
                "mov [rcx + 16], rdx",
                "mov [rcx + 24], rsi",
                "mov [rcx + 32], rbp",
                "mov [rcx + 40], r8",
                "mov [rcx + 48], r9",
                "mov [rcx + 56], r10",
                "mov [rcx + 64], r11",
                "mov [rcx + 72], r12",
                "mov [rcx + 80], r13",
                "mov [rcx + 88], r14",
                "mov [rcx + 96], r15",
                ".irp i,16,15,14,13,12,11,10,9,8,7,6,5,4,3,2,1",
                "mov rax, [rsp - 8 * \\i]",
                "mov [rcx + 240 - 8 * \\i], rax",
                ".endr",
                "pushfq",
                "pop [rcx + 104]",
                "cld",
                "stmxcsr [rcx + 240]",
                "fnstcw [rcx + 244]",
                "fstp qword ptr [rcx + 248]",
                "fstp qword ptr [rcx + 256]",
                $($store,)*
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
    };
}

spinner!(
    spin_sse,
    [".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15", "movups xmm\\i, [rsi + 64 * \\i]", ".endr"],
    [".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15", "movups [rcx + 384 + 64 * \\i], xmm\\i", ".endr"]
);
spinner!(
    spin_avx,
    [".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15", "vmovups ymm\\i, [rsi + 64 * \\i]", ".endr"],
    [
        ".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
        "vmovups [rcx + 384 + 64 * \\i], ymm\\i",
        ".endr",
        "vzeroupper"
    ]
);
spinner!(
    spin_avx512,
    [
        ".irp i,0,1,2,3,4,5,6,7",
        "vmovups zmm\\i, [rsi + 64 * \\i]",
        "kmovq k\\i, [rsi + 64 * \\i]",
        ".endr",
        ".irp i,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
        "vmovups zmm\\i, [rsi + 64 * \\i]",
        ".endr"
    ],
    [
        ".irp i,0,1,2,3,4,5,6,7",
        "vmovups [rcx + 384 + 64 * \\i], zmm\\i",
        "kmovq [rcx + 264 + 8 * \\i], k\\i",
        ".endr",
        ".irp i,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
        "vmovups [rcx + 384 + 64 * \\i], zmm\\i",
        ".endr",
        "vzeroupper"
    ]
);

impl Width {
    /// This processor's.
    pub fn here() -> Self {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
            Width::Avx512
        } else if is_x86_feature_detected!("avx") {
            Width::Avx
        } else {
            Width::Sse
        }
    }

    fn registers(self) -> (usize, usize) {
        match self {
            Width::Sse => (16, 16),
            Width::Avx => (16, 32),
            Width::Avx512 => (32, 64),
        }
    }

    /// Holds known values in every register until `*stop` is not 0; what was another then.
    pub fn spin(self, stop: &AtomicU32) -> Vec<String> {
        self.changed(&self.hold(stop))
    }

    fn vectors() -> [[u8; 64]; 32] {
        std::array::from_fn(|register| std::array::from_fn(|index| (register * 7 + index * 3 + 1) as u8))
    }

    /// The first half of [`spin`](Self::spin): it allocates nothing.
    pub fn hold(self, stop: &AtomicU32) -> Found {
        let vectors = Self::vectors();
        let mut found = Found {
            general: [0; 13],
            flags: 0,
            red_zone: [0; 16],
            mxcsr: 0,
            x87_control: 0,
            x87: [0.0; 2],
            opmask: [0; 8],
            unused: [0; 7],
            vectors: [[0; 64]; 32],
        };
        let spin = match self {
            Width::Sse => spin_sse,
            Width::Avx => spin_avx,
            Width::Avx512 => spin_avx512,
        };
        // SAFETY: all pointers are valid, and this processor has these registers.
        unsafe { spin(stop, vectors.as_ptr().cast(), &raw mut found, GENERAL.as_ptr()) };
        found
    }

    /// The second half: what is not as it was.
    pub fn changed(self, found: &Found) -> Vec<String> {
        let vectors = Self::vectors();
        let mut changed = Vec::new();
        let mut expect = |same: bool, what: String| {
            if !same {
                changed.push(what);
            }
        };
        const NAMES: [&str; 13] =
            ["rax", "rbx", "rdx", "rsi", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];
        for ((name, found), expected) in NAMES.iter().zip(found.general).zip(GENERAL) {
            expect(found == expected, format!("{name} {found:#x} for {expected:#x}"));
        }
        expect(found.flags & FLAGS == FLAGS, format!("flags {:#x}", found.flags));
        expect(found.red_zone == [RED_ZONE; 16], format!("the red zone {:x?}", found.red_zone));
        expect(found.mxcsr & 0xFFC0 == MXCSR & 0xFFC0, format!("MXCSR {:#x}", found.mxcsr));
        expect(found.x87_control == X87_CONTROL, format!("x87 control word {:#x}", found.x87_control));
        let x87 = (found.x87[0] - std::f64::consts::PI).abs() < 1e-9 && found.x87[1] == 1.0;
        expect(x87, format!("x87 registers {:?}", found.x87));
        let (count, bytes) = self.registers();
        for (register, (found, expected)) in found.vectors.iter().zip(&vectors).take(count).enumerate() {
            expect(found[..bytes] == expected[..bytes], format!("vector register {register}"));
        }
        if self == Width::Avx512 {
            for (register, (found, vector)) in found.opmask.into_iter().zip(&vectors).enumerate() {
                let (expected, _) = vector.split_first_chunk().expect("64 bytes are eight and more");
                expect(found == u64::from_le_bytes(*expected), format!("k{register}"));
            }
        }
        changed
    }
}

#[unsafe(naked)]
extern "C" fn trash_sse() {
    naked_asm!(
        ".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
        "xorps xmm\\i, xmm\\i",
        ".endr",
        "xor eax, eax",
        "ret"
    )
}

#[unsafe(naked)]
extern "C" fn trash_avx() {
    naked_asm!("vzeroall", "xor eax, eax", "ret")
}

#[unsafe(naked)]
extern "C" fn trash_avx512() {
    naked_asm!(
        ".irp i,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
        "vpxorq zmm\\i, zmm\\i, zmm\\i",
        ".endr",
        ".irp i,0,1,2,3,4,5,6,7",
        "kxorq k\\i, k\\i, k\\i",
        ".endr",
        "vzeroall",
        "xor eax, eax",
        "ret"
    )
}

/// Wipes every vector register, as the ABI allows any function; for hooks.
pub(crate) fn trash() {
    /// The function's address; 0 before the first call, which a law makes outside of signals.
    static TRASH: AtomicU64 = AtomicU64::new(0);
    // Relaxed: the code at the address was always there.
    let mut address = TRASH.load(Relaxed);
    if address == 0 {
        let function: extern "C" fn() = match Width::here() {
            Width::Sse => trash_sse,
            Width::Avx => trash_avx,
            Width::Avx512 => trash_avx512,
        };
        address = function as *const () as u64;
        TRASH.store(address, Relaxed);
    }
    // SAFETY: the address of such a function, stored a few lines above.
    let function = unsafe { std::mem::transmute::<usize, extern "C" fn()>(address as usize) };
    function();
}

const _: () = {
    use std::mem::offset_of;
    assert!(offset_of!(Found, flags) == 104 && offset_of!(Found, red_zone) == 112);
    assert!(offset_of!(Found, mxcsr) == 240 && offset_of!(Found, x87_control) == 244);
    assert!(offset_of!(Found, x87) == 248 && offset_of!(Found, opmask) == 264);
    assert!(offset_of!(Found, vectors) == 384);
};
