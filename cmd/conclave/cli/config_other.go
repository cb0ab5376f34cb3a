//go:build !unix

package cli

import "os"

// signalNamed knows no signals: this system has none that a program could be
// reloaded with.
func signalNamed(string) (os.Signal, bool) { return nil, false }

// terminate ends a process.
func terminate(p *os.Process) error { return p.Kill() }

// likeBefore gives a file the permissions that another one has.
func likeBefore(f *os.File, before os.FileInfo) error {
	return os.Chmod(f.Name(), before.Mode().Perm())
}
