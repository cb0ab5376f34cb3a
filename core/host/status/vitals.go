package status

import (
	"time"

	hostv1 "github.com/conclavehq/conclave/api/conclave/host/v1"
)

const (
	// slowFsync is what an fsync of etcd's log takes on average when the disk is a
	// problem: every write waits for one, and etcd's heartbeats come late at ten
	// times the 10 ms that etcd asks of a disk.
	slowFsync = 100 * time.Millisecond
	// fewFsyncs is too few to judge a disk by.
	fewFsyncs = 20
	// flapping is how many changes of the leader within ten minutes are no accident.
	flapping = 4
	// nearlyAll is the part of a limit at which it is a problem.
	nearlyAll = 0.8
)

// Vitals are how the embedded member has been lately.
type Vitals struct {
	Window        time.Duration // what they are about
	Fsyncs        int           // of etcd's log
	Fsync         time.Duration // what one took on average
	LeaderChanges int           // that the member has seen
}

// ofVitals tells of what is too slow or too restless. The words have no figures
// that change from one look to the next.
func ofVitals(v Vitals) []*hostv1.Problem {
	var found []*hostv1.Problem
	if v.Fsyncs >= fewFsyncs && v.Fsync >= slowFsync {
		found = append(found, problem(warning, "slow_disk", "give etcd a disk of its own, or a faster one; see who else writes there: iostat -x 1",
			"the disk is slow: of late a write of etcd's log takes more than %v on average", slowFsync))
	}
	if v.LeaderChanges >= flapping {
		found = append(found, problem(warning, "leader_flaps", "look for a slow disk, a machine without free processors, or a bad network: conclave etcdctl endpoint status --cluster",
			"the leader of etcd has changed again and again within %v: every change stops writes for about a second", 10*time.Minute))
	}
	return found
}

// ofSessions tells that the limit is near, at which sessions are refused.
func ofSessions(sessions, limit int) []*hostv1.Problem {
	if limit == 0 || float64(sessions) < nearlyAll*float64(limit) {
		return nil
	}
	return []*hostv1.Problem{problem(warning, "sessions_near_limit", "find out who opens them, or raise limits.sessions",
		"more than %d %% of the %d sessions that this host takes are open", int(100*nearlyAll), limit)}
}
