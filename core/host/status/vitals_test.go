package status

import (
	"testing"
	"time"

	hostv1 "github.com/conclavehq/conclave/api/conclave/host/v1"
)

func reasons(found []*hostv1.Problem) string {
	var all string
	for _, p := range found {
		all += p.GetReason() + " "
		if p.GetHint() == "" {
			all += "without a hint "
		}
	}
	return all
}

func TestProblemsOfVitals(t *testing.T) {
	for _, c := range []struct {
		v    Vitals
		want string
	}{
		{Vitals{}, ""},
		{Vitals{Fsyncs: fewFsyncs, Fsync: slowFsync, LeaderChanges: flapping - 1}, "slow_disk "},
		{Vitals{Fsyncs: fewFsyncs - 1, Fsync: time.Second}, ""},
		{Vitals{Fsyncs: 1000, Fsync: slowFsync - 1, LeaderChanges: flapping}, "leader_flaps "},
	} {
		if got := reasons(ofVitals(c.v)); got != c.want {
			t.Errorf("%+v: got %q, want %q", c.v, got, c.want)
		}
	}
	for n, want := range map[int]string{79: "", 80: "sessions_near_limit "} {
		if got := reasons(ofSessions(n, 100)); got != want {
			t.Errorf("%d of 100 sessions: got %q, want %q", n, got, want)
		}
	}
	now := time.Now()
	for left, want := range map[time.Duration]string{renewal + time.Hour: "", renewal: "", renewal - 1: "certificate_expires ", 0: "certificate_expired "} {
		if got := reasons(ofCertificates([]Certificate{{Field: "tls", Expires: now.Add(left)}}, now)); got != want {
			t.Errorf("%v left: got %q, want %q", left, got, want)
		}
	}
}
