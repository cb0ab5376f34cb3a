package coretest

import "golang.org/x/sys/unix"

// awaitStopped leaves the child's state unread, so that waiting for its end still works.
func awaitStopped(pid int) error {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return err
		}
	}
}
