//! How much memory this process holds, beyond what it needs.

use std::ffi::c_void;

use crate::error::{Errno, OsError, Result};

/// At most this many heaps for all threads together. The C library gives every thread one of its own where it
/// may, each as large as the most that thread ever needed; one for the first thread and one for all others
/// keeps that thread from waiting for another's lock where it allocates.
const HEAPS: i32 = 2;

/// Blocks from this size on are pages of their own, given back as soon as they are free. Set, because the C
/// library otherwise raises it to the largest block that was ever freed.
const OWN_PAGES: i32 = 128 * 1024;

/// Has the C library's allocator hold little. To be called before any thread is started; where the C library
/// has no such settings nothing happens.
pub fn be_lean() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: integers only; no other thread exists yet that could be allocating.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, HEAPS) };
        // SAFETY: as above.
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_PAGES) };
    }
}

/// Gives the kernel back what is free in the heaps.
pub fn give_back_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes the allocator's own locks; frees pages in which nothing lives.
    unsafe {
        libc::malloc_trim(0)
    };
}

/// Unmaps the pages of this program's code and constants. What is needed is mapped again as it is used, from the
/// page cache; what only a start needs no longer counts as this process's memory.
///
/// # Errors
/// When the kernel refuses it; then they stay mapped.
pub fn give_back_code() -> Result<()> {
    let mut refused = None;
    for (start, length) in read_only_segments() {
        // SAFETY: a segment that the program file maps without write access: no page of it can differ from the
        // file, so that each comes back as it was. Relocated constants lie in a writable segment.
        let rc = unsafe { libc::madvise(start as *mut c_void, length, libc::MADV_DONTNEED) };
        if rc != 0 {
            refused = Some(OsError::new("give back pages of the program", Errno::last()));
        }
    }
    refused.map_or(Ok(()), Err)
}

/// The mapped segments of the program file that it asks to be mapped without write access, in whole pages.
fn read_only_segments() -> Vec<(usize, usize)> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    // SAFETY: `first_object` takes its data as what it is here, and `found` outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(first_object), (&raw mut found).cast()) };
    found
}

/// For the program itself, which is told first: collects its segments, and ends the walk.
///
/// # Safety
/// `data` points to a `Vec<(usize, usize)>` that nobody else uses.
unsafe extern "C" fn first_object(info: *mut libc::dl_phdr_info, _size: usize, data: *mut c_void) -> i32 {
    // SAFETY: the loader passes a valid description, and the caller a vector.
    let (info, found) = unsafe { (&*info, &mut *data.cast::<Vec<(usize, usize)>>()) };
    let page = rustix::param::page_size();
    // SAFETY: the loader's own table of so many headers.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    for header in headers {
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        let start = info.dlpi_addr as usize + header.p_vaddr as usize;
        // A page at the end may be shared with the next segment: it stays.
        let (first, end) = (start.next_multiple_of(page), (start + header.p_memsz as usize) / page * page);
        if end > first {
            found.push((first, end - first));
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_runs_on_when_its_code_was_given_back() {
        let words = ["read", "again", "from", "the", "file"];
        let before: usize = words.iter().map(|word| word.len()).sum();
        assert!(!read_only_segments().is_empty());
        give_back_code().unwrap();
        give_back_heap();
        assert_eq!(words.iter().map(|word| word.len()).sum::<usize>(), before);
    }
}
