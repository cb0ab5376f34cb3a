package discovery

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/conclavehq/conclave/core"
)

// left is the state of a farewell. It is nobody's to set.
const left State = "left"

// tokenShift is where a token has its revision.
const tokenShift = 16

// A record is the value of an instance's key. docs/protocol-discovery.md says
// what its fields mean.
type record struct {
	V        int               `json:"v"`
	Reg      string            `json:"reg"`
	Inc      int64             `json:"inc"`
	Addr     string            `json:"addr,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Tags     []string          `json:"tags,omitempty"`
	Weight   int               `json:"weight,omitempty"`
	Zone     string            `json:"zone,omitempty"`
	Version  string            `json:"version,omitempty"`
	State    State             `json:"state,omitempty"` // passing if it is absent
	Mark     State             `json:"mark,omitempty"`
	By       string            `json:"by,omitempty"`
	Checks   []check           `json:"checks,omitempty"`
	Health   *health           `json:"health,omitempty"`
	Owner    string            `json:"owner,omitempty"`
	Host     string            `json:"host,omitempty"`
	PID      int               `json:"pid,omitempty"`
	Since    *time.Time        `json:"since,omitempty"`
}

// recordOf is what a program says of an instance that is normal. A caller of a
// host's API is no process that anybody could look for.
func recordOf(i Instance, reg string, s *core.Session, since time.Time) record {
	since = since.UTC().Truncate(time.Millisecond)
	r := record{V: 1, Reg: reg, Owner: s.Owner(), Since: &since}
	if !s.Engine().Borrowed() {
		r.Host, _ = os.Hostname() // an empty one says as little
		r.PID = os.Getpid()
	}
	r.say(i)
	return r
}

// say takes over what a program may change.
func (r *record) say(i Instance) {
	r.Addr, r.Metadata, r.Tags, r.Weight, r.Zone, r.Version = i.Addr, i.Metadata, i.Tags, i.Weight, i.Zone, i.Version
	r.Checks, r.State = checksOf(i.Checks), i.State
	if r.State == Passing {
		r.State = ""
	}
}

// farewell is the record of an instance that was deregistered.
func farewell(reg string, inc int64) record {
	return record{V: 1, Reg: reg, Inc: inc, State: left}
}

func (r record) bytes() string { return text(r) }

// parse reads a record. An error says that it was not written by this protocol.
func parse(kv *mvccpb.KeyValue) (record, error) {
	var r record
	if err := json.Unmarshal(kv.Value, &r); err != nil {
		return record{}, fmt.Errorf("not a record: %w", err)
	}
	if r.V < 1 || r.Reg == "" || r.Inc < 1 {
		return record{}, fmt.Errorf("not a record: version %d", r.V)
	}
	return r, nil
}

// recordIn is parse for who does not mind why.
func recordIn(kv *mvccpb.KeyValue) (record, bool) {
	r, err := parse(kv)
	return r, err == nil
}

// over returns the value of kv with the named fields as r has them. Fields that
// this version does not know are kept.
func (r record) over(kv *mvccpb.KeyValue, fields ...string) (string, error) {
	was, err := parse(kv)
	if err != nil {
		return "", err
	}
	if was.bytes() == string(kv.Value) {
		return r.bytes(), nil // as its owner would write it, who then has nothing to do
	}
	var all, mine map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(kv.Value, &all), json.Unmarshal([]byte(r.bytes()), &mine)); err != nil {
		return "", err
	}
	for _, name := range fields {
		delete(all, name)
		if v, ok := mine[name]; ok {
			all[name] = v
		}
	}
	return text(all), nil
}

// instance is what readers are told.
func (r record) instance(service, id string) Instance {
	i := Instance{Service: service, ID: id, Addr: r.Addr, Metadata: r.Metadata, Tags: r.Tags, Weight: max(r.Weight, 1), Zone: r.Zone, Version: r.Version,
		State: r.effective(), Token: core.Token(r.Inc << tokenShift), Owner: r.Owner,
		Checks: hostChecks(r.Checks), Health: r.Health.public()}
	if r.Since != nil {
		i.Since = *r.Since
	}
	return i
}

// effective is the state that counts: an operator's, or else that of a program
// that takes no requests, or else the worst of what the program and the hosts say.
func (r record) effective() State {
	switch {
	case r.State == left:
		return left
	case r.Mark != "":
		return r.Mark
	case r.State == Draining, r.State == Maintenance:
		return r.State
	}
	s := worst(Passing, r.State)
	if len(r.Checks) > 0 {
		s = worst(s, r.Health.state(len(r.Checks)))
	}
	return s
}
