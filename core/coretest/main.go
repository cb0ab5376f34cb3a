package coretest

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// Main runs a package's tests with one member for all of them, and ends the process. While tests run, *etcd is the member.
// After them the member is closed, and the package fails if a goroutine is left.
//
// etcd may be nil for a package whose tests need no shared member. In a process that [Child] started, Main runs the child's function instead.
func Main(m *testing.M, etcd **Etcd, opts ...Option) {
	s := newSettings(opts)
	Dispatch(s.children)
	goleak.VerifyTestMain(&run{tests: m, etcd: etcd, settings: s})
}

// WithChildren names the functions that [Child] can run. The value is the process's exit code.
func WithChildren(children map[string]func() int) Option {
	return func(s *settings) { s.children = children }
}

// run is what goleak sees as the tests: it looks for goroutines when Run has returned.
type run struct {
	tests    *testing.M
	etcd     **Etcd
	settings settings
}

func (r *run) Run() int {
	if r.etcd == nil {
		return r.tests.Run()
	}
	code, err := r.withEtcd()
	if err != nil {
		fmt.Fprintln(os.Stderr, "coretest:", err)
		return 1
	}
	return code
}

func (r *run) withEtcd() (code int, err error) {
	dir, err := os.MkdirTemp("", "coretest-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	e, err := startEtcd(r.settings.config, dir)
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, e.member.Close()) }()
	*r.etcd = e
	return r.tests.Run(), nil
}
