package core_test

import (
	"context"
	"errors"
	"testing"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
)

// Who waits for Close is told of it, once, and Close waits for them: whatever ended
// the session before.
func TestOnClose(t *testing.T) {
	for name, end := range map[string]func(s *core.Session){
		"closed": func(s *core.Session) { _ = s.Close() },
		"orphaned": func(s *core.Session) {
			s.Orphan()
			_ = s.Close()
		},
		"closed after its expiry": func(s *core.Session) {
			coretest.ExpireLease(t, s.Client(), s.Lease())
			<-s.Context().Done()
			if err := s.Close(); !errors.Is(err, core.ErrSessionExpired) {
				t.Errorf("Close: %v", err)
			}
		},
	} {
		s := open(t, etcd.Client(t))
		told := 0
		if !s.OnClose(func() { told++ }) {
			t.Errorf("%s: refused while it is open", name)
		}
		end(s)
		_ = s.Close()
		if told != 1 {
			t.Errorf("%s: told %d times", name, told)
		}
		if s.OnClose(func() { told++ }) {
			t.Errorf("%s: accepted after Close", name)
		}
	}
}

// The expiry alone is no Close.
func TestOnCloseIsNotTheExpiry(t *testing.T) {
	s := open(t, etcd.Client(t))
	closed, cancel := context.WithCancel(t.Context())
	s.OnClose(cancel)
	coretest.ExpireLease(t, s.Client(), s.Lease())
	<-s.Context().Done()
	if closed.Err() != nil {
		t.Error("the expiry counted as Close")
	}
	_ = s.Close()
	if closed.Err() == nil {
		t.Error("not told of Close")
	}
}
