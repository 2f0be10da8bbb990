//! Bare system calls, for the child that runs in memory that is not its own: no errno, no libc, no lock.

use std::ffi::c_void;

/// What a fresh process runs; it has the argument and nothing to return to.
pub(super) type Entry = unsafe extern "C" fn(*mut c_void) -> !;

/// One system call. Returns what the kernel returned: a negative errno on failure.
///
/// # Safety
/// As for the system call itself: pointers among `args` must be valid for what the kernel does with them.
#[inline]
pub(super) unsafe fn call(number: libc::c_long, args: [usize; 5]) -> isize {
    let result: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the x86-64 Linux convention; rcx and r11 are the registers it destroys.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2], in("r10") args[3], in("r8") args[4],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the arm64 Linux convention; only x0 changes.
    unsafe {
        core::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") args[0] as isize => result,
            in("x1") args[1], in("x2") args[2], in("x3") args[3], in("x4") args[4],
            options(nostack),
        );
    }
    result
}

/// clone(2) or clone3(2) onto a new stack: in the child, calls `entry(argument)`; in the parent, returns the child's pid or a negative errno.
///
/// # Safety
/// The system call's arguments must name a stack (16-byte aligned top) that nothing else uses while the child lives, and `entry` must be
/// sound to run there with `argument`, in memory shared with this process.
pub(super) unsafe fn clone_onto(
    number: libc::c_long,
    args: [usize; 5],
    entry: Entry,
    argument: *mut c_void,
) -> isize {
    let result: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as in `call`. The child returns from the system call with the new stack pointer and copies of all
    // other registers, so it finds entry and argument in r12 and r13, and never comes past `ud2`.
    unsafe {
        core::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "ud2",
            "2:",
            inlateout("rax") number as isize => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2], in("r10") args[3], in("r8") args[4],
            in("r12") entry, in("r13") argument,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as on x86-64, with x20 and x21.
    unsafe {
        core::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, x21",
            "blr x20",
            "brk 1",
            "2:",
            in("x8") number,
            inlateout("x0") args[0] as isize => result,
            in("x1") args[1], in("x2") args[2], in("x3") args[3], in("x4") args[4],
            in("x20") entry, in("x21") argument,
        );
    }
    result
}

/// Ends the calling process without any of its exit handlers.
pub(super) fn exit(code: usize) -> ! {
    loop {
        // SAFETY: exit_group takes an integer and does not return.
        unsafe { call(libc::SYS_exit_group, [code, 0, 0, 0, 0]) };
    }
}
