package waitqueue

import (
	"encoding/json"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/conclavehq/conclave/core"
)

// A notice tells an owner that it is forced out, before it happens.
type notice struct {
	V      int    `json:"v"`
	By     string `json:"by"`
	Reason string `json:"reason"`
	// To is the hint of the ticket that the owner shall let go in favour of.
	To json.RawMessage `json:"to,omitempty"`
}

func noticeOf(kv *mvccpb.KeyValue) notice {
	var n notice
	_ = json.Unmarshal(kv.Value, &n) // an unreadable notice is one all the same
	return n
}

func (n notice) error() error {
	return fmt.Errorf("%w by %s: %s", core.ErrRevoked, n.By, n.Reason)
}
