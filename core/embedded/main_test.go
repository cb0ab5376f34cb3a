package embedded_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/conclavehq/conclave/core/coretest"
)

func TestMain(m *testing.M) {
	coretest.Dispatch(children())
	goleak.VerifyTestMain(patient{m})
}

// patient gives goroutines of the network longer than goleak does: a connection between members that was being opened
// while one of them stopped ends with etcd's read timeout, five seconds later.
type patient struct{ tests *testing.M }

func (p patient) Run() int {
	code := p.tests.Run()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		if goleak.Find() == nil {
			break
		}
	}
	return code
}
