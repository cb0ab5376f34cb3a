//go:build linux || darwin

package cli

import "golang.org/x/sys/unix"

// freeBytes is how much can be written where path is.
func freeBytes(path string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), nil //nolint:gosec,unconvert // no disk is that large; the types differ between systems
}
