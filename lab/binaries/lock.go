package binaries

import (
	"os"
	"syscall"
)

// lock waits until no other process holds the lock file at path and takes it.
// The kernel releases it with the process, whatever happens to that.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if err != syscall.EINTR {
			f.Close()
			return nil, err
		}
	}
}
