package election

import (
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/waitqueue"
)

// A Leader is who leads at one revision, or, if it is vacant, that nobody does.
type Leader struct {
	Name  string           // of the election
	ID    string           // of the candidacy that won, never used again
	Owner string           // of the session
	Host  string           // where its process runs
	PID   int              // of its process
	Zone  string           // where it runs, if it said so
	Value string           // what the leader last proclaimed, or campaigned with
	Token core.Token       // of the term
	Since time.Time        // it leads; by the clock of the process that wrote it
	Lease clientv3.LeaseID // of the session
	// Before is how the term before ended, if it passed straight to this one.
	Before Ending

	// Revision is one at which this was so.
	Revision int64
	// Gap says that terms may have come and gone unseen before this one: etcd had
	// compacted the revisions that an observation had still to see. The zero
	// Leader of a first read never has it.
	Gap bool
}

// Vacant tells that nobody leads.
func (l Leader) Vacant() bool { return l.Token == 0 }

// An Ending is how a term ended that passed straight to the next leader.
type Ending struct {
	ID    string     // of the candidacy that led
	Token core.Token // of the term
	Cause Cause      // why it ended
	By    string     // who ended it and why; empty if it was simply resigned
}

// A Cause is why a term ended.
type Cause string

// The causes of an [Ending]. A term that ended with its session, or whose key was
// deleted by hand, passes to nobody, and has none.
const (
	Resigned    Cause = "resigned"
	Transferred Cause = "transferred" // see [Election.Transfer]
	Unhealthy   Cause = "unhealthy"   // the leader failed its own check, see [WithHealth]
	Forced      Cause = "forced"      // see [Election.ForceResign]; or a transfer for which the leader's grace was too short
)

func endingOf(p *waitqueue.Prev) Ending {
	if p == nil {
		return Ending{}
	}
	e := Ending{ID: p.ID, Token: core.Token(p.Token), Cause: Cause(p.Cause), By: p.By}
	if p.Cause == waitqueue.CauseReleased {
		e.Cause = Resigned
	}
	return e
}

// A Contender leads or stands for election.
type Contender struct {
	Name     string           // of the election
	ID       string           // of the candidacy, never used again
	Owner    string           // of the session
	Host     string           // where its process runs
	PID      int              // of its process
	Value    string           // that it stands with
	Purpose  string           // what it stands for
	Priority int              // larger goes first
	Zone     string           // where it runs, if it said so
	Leads    bool             // else it waits
	Token    core.Token       // of a leader's term, else 0
	Since    time.Time        // it leads, or waits; by the clock of the process that wrote it
	Lease    clientv3.LeaseID // of the session
	// Revision is that of the key that says so.
	Revision int64
}

func leadersOf(s *waitqueue.Standing, revision int64) []Leader {
	owners := s.Owners()
	leaders := make([]Leader, len(owners))
	for i, c := range owners {
		r := &c.Record
		leaders[i] = Leader{Name: c.Name, ID: r.ID, Owner: r.Owner, Host: r.Host, PID: r.PID, Zone: r.Zone, Value: r.Value,
			Token: core.Token(c.Token), Since: r.Since, Lease: clientv3.LeaseID(c.Lease), Before: endingOf(r.Prev), Revision: revision}
	}
	return leaders
}

// sameTerms tells whether the same lead in the same terms, and sameLeaders whether
// with the same values.
func sameTerms(a, b []Leader) bool {
	return slices.EqualFunc(a, b, func(x, y Leader) bool { return x.Token == y.Token })
}

func sameLeaders(a, b []Leader) bool {
	return slices.EqualFunc(a, b, func(x, y Leader) bool { return x.Token == y.Token && x.Value == y.Value })
}

func contendersOf(cs []waitqueue.Contender) []Contender {
	out := make([]Contender, len(cs))
	for i, c := range cs {
		r := &c.Record
		out[i] = Contender{Name: c.Name, ID: r.ID, Owner: r.Owner, Host: r.Host, PID: r.PID, Value: r.Value,
			Purpose: r.Purpose, Priority: r.Priority, Zone: r.Zone, Leads: c.Holds, Token: core.Token(c.Token), Since: r.Since,
			Lease: clientv3.LeaseID(c.Lease), Revision: c.Revision()}
	}
	return out
}
