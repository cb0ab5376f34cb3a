package waitqueue

import (
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/conclavehq/conclave/core"
)

// The record of a set stands from the transaction that takes its names to the
// one that lets them go, and its revision is the set's token. A forced release
// of one name overwrites it, which ends the set as a whole; only its owner
// deletes it, with what is left of the names.

// brokenRecord is what a set's record becomes when it loses the name of c.
func brokenRecord(c Contender) string {
	r := c.Record
	r.Broken = c.revision // all grants of a set have one revision
	return mustJSON(r)
}

// brokenSet ends an acquisition whose set was taken by a request without a
// reply and lost a name by force before anybody knew.
func (a *acquisition) brokenSet(set *mvccpb.KeyValue) error {
	a.uncertain = true // Void finds what is left
	if recordOf(set).Broken == 0 {
		return fmt.Errorf("%w: %w", errGone, core.ErrKeyDeleted)
	}
	return fmt.Errorf("%w: %w", errGone, core.ErrRevoked)
}
