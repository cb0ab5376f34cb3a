package barrier

import (
	"time"

	"github.com/conclavehq/conclave/barrier/internal/rendezvous"
	"github.com/conclavehq/conclave/core"
)

// A Party is somebody who holds a barrier, or came to one.
type Party struct {
	ID         string     // of the hold or the arrival, never used again by another caller
	Owner      string     // of its session
	Host       string     // where it runs; empty for a caller of a host's API
	PID        int        // its process; 0 for a caller of a host's API
	Purpose    string     // see WithPurpose
	Since      time.Time  // by the party's clock, for people
	Token      core.Token // of its key
	Persistent bool       // the hold outlives its session
	Lost       bool       // it was lost, and broke the barrier by that; it has no token
}

func partiesOf(all []rendezvous.Holder) []Party {
	var parties []Party
	for _, h := range all {
		parties = append(parties, Party{ID: h.ID, Owner: h.Owner, Host: h.Host, PID: h.PID, Purpose: h.Purpose, Since: h.Since,
			Token: core.Token(h.Token), Persistent: h.Persistent, Lost: h.Lost})
	}
	return parties
}
