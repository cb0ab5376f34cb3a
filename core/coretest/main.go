package coretest

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

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
	code, err := r.withEtcd()
	if err != nil {
		fmt.Fprintln(os.Stderr, "coretest:", err)
		return 1
	}
	if code == 0 {
		settle()
	}
	return code
}

// settle gives goroutines of the network longer than goleak does: a connection between members that was being opened while
// one of them stopped ends with etcd's read timeout, five seconds later.
func settle() {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		if goleak.Find() == nil {
			return
		}
	}
}

func (r *run) withEtcd() (code int, err error) {
	if r.etcd == nil {
		return r.tests.Run(), nil
	}
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
