//go:build !linux && !darwin

package supervise

import "io"

// Run returns ErrUnsupported: this system has no process groups.
func Run(Config) (Result, error) { return Result{}, ErrUnsupported }

// A GuardProcess cannot be had on this system.
type GuardProcess struct{}

// StartGuard returns ErrUnsupported.
func StartGuard([]string, string) (*GuardProcess, error) { return nil, ErrUnsupported }

// End has nothing to end.
func (*GuardProcess) End() {}

// Leave has nothing to leave to.
func (*GuardProcess) Leave() {}

// Guard has nothing to guard on this system.
func Guard(io.Reader, io.Writer, func(string)) int { return 1 }

// GuardFiles has nothing to return on this system.
func GuardFiles() (io.Reader, io.Writer) { return nil, nil }

// Become returns ErrUnsupported: on this system no process becomes another program.
func Become(string, []string, []string) error { return ErrUnsupported }

// Stub has nothing to start on this system.
func Stub([]string) int { return 1 }
