package cli

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/internal/upkeep"
)

// upkeepOf is a run of a command of maintenance on an etcd of its own, and what it prints.
func upkeepOf(t *testing.T, faults *coretest.Faults, output string) (m *upkeepRun, stdout, stderr *bytes.Buffer) {
	t.Helper()
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	a := &app{stdout: stdout, stderr: stderr}
	a.flags.output.value = output
	return &upkeepRun{app: a, client: coretest.StartEtcd(t).Client(t, faults.DialOptions()...)}, stdout, stderr
}

// after matches calls of a method after so many.
func after(calls int, method string) coretest.Match {
	is := coretest.Method(method)
	return func(method string, req any) bool {
		if !is(method, req) {
			return false
		}
		calls--
		return calls < 0
	}
}

// What was done before a member failed is told, in one document.
func TestDefragHalfWay(t *testing.T) {
	t.Parallel()
	faults := coretest.NewFaults()
	m, stdout, _ := upkeepOf(t, faults, outputJSON)
	members, err := upkeep.Look(t.Context(), m.client)
	if err != nil || len(members) != 1 {
		t.Fatalf("%v, %v", members, err)
	}
	one := members[0]
	one.Leader = false // it hands nothing over
	members = []upkeep.Member{one, one, one}
	faults.LoseRequest(after(2, "Defragment"), coretest.WithCode(codes.Internal))
	if err := m.defragEach(t.Context(), members, true); err == nil || !strings.Contains(err.Error(), one.Name) {
		t.Errorf("the third did not fail: %v", err)
	}
	if got := stdout.String(); strings.Count(got, "\n") != 1 || strings.Count(got, `"before"`) != 2 {
		t.Errorf("it printed %q", got)
	}
	stdout.Reset()
	faults.LoseRequest(after(0, "Defragment"), coretest.WithCode(codes.Internal))
	if err := m.defragEach(t.Context(), members, true); err == nil || stdout.Len() != 0 {
		t.Errorf("nothing was done: %v, %q", err, stdout)
	}
}

// A recovery is one also when nobody can say what etcd is like after it.
func TestRecoverWithoutAStatus(t *testing.T) {
	t.Parallel()
	faults := coretest.NewFaults()
	m, stdout, stderr := upkeepOf(t, faults, outputJSON)
	lost := faults.LoseRequest(after(2, "MemberList"), coretest.WithCode(codes.Internal)) // Recover looks twice
	if err := m.app.maintenanceRecover(t.Context(), m); err != nil || lost.Fired() != 1 {
		t.Errorf("%v; %d looks have failed", err, lost.Fired())
	}
	if stdout.String() != "[]\n" || !strings.Contains(stderr.String(), "etcd has recovered; its status could not be read: ") {
		t.Errorf("it printed %q and %q", stdout, stderr)
	}
}
