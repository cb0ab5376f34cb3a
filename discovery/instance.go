package discovery

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// A State says whether an instance is to be sent to.
type State string

// The states. Requests go to instances that are passing or warning.
const (
	Passing     State = "passing"     // all is well; the default
	Warning     State = "warning"     // it works, but somebody should look
	Critical    State = "critical"    // it fails its health checks
	Draining    State = "draining"    // it ends what it has begun, and takes nothing new
	Maintenance State = "maintenance" // an operator took it out of service
)

// Usable reports whether requests may go to an instance in this state.
func (s State) Usable() bool { return s == "" || s == Passing || s == Warning }

// The limits of an instance. Lengths are in bytes of UTF-8.
const (
	MaxAddr     = 512    // of Addr
	MaxLabel    = 255    // of Zone, Version, a tag, and a key of Metadata
	MaxLabels   = 128    // tags, and entries of Metadata
	MaxMetadata = 4096   // of one value of Metadata
	MaxWeight   = 65_535 // of Weight, as in a DNS SRV record
)

// An Instance is one address at which a service can be reached.
//
// An Instance that came from a reader shares Metadata and Tags with other
// readers: do not change them.
type Instance struct {
	// Service is 1 to 8 segments joined by "/", like every name.
	Service string `json:"service"`
	// ID names the instance within the service, under the rules of a name. Empty:
	// the same as Addr, so that a program that restarts takes its own place.
	ID string `json:"id"`
	// Addr is host:port, as clients dial it.
	Addr string `json:"addr"`
	// Metadata is for whoever chooses among instances.
	Metadata map[string]string `json:"metadata,omitempty"`
	// Tags are too.
	Tags []string `json:"tags,omitempty"`
	// Weight is the share of requests beside other instances, 1 to 65,535. 0 is 1.
	Weight int `json:"weight"`
	// Zone is where the instance runs, for readers who prefer their own.
	Zone string `json:"zone,omitempty"`
	// Version is that of the program.
	Version string `json:"version,omitempty"`
	// State is [Passing] if it is empty. An operator's mark goes before what the
	// registering program said.
	State State `json:"state"`
	// Checks are carried out by hosts, at most 8. Until they are, and while one
	// fails, the instance is [Critical], whatever State says.
	Checks []HostCheck `json:"checks,omitempty"`

	// What follows is filled in by readers, and ignored by Register and Update.

	// Token names the incarnation: larger for every later registration of the ID.
	Token core.Token `json:"token,string,omitempty"`
	// Health is what hosts found; nil: nothing yet.
	Health *Health `json:"health,omitempty"`
	// Owner is who registered it, as people read it.
	Owner string `json:"owner,omitempty"`
	// Since is when it was registered, by that program's clock.
	Since time.Time `json:"since,omitzero"`
}

// normal checks an instance, and returns a copy with the defaults filled in.
func (i Instance) normal() (Instance, error) {
	if i.ID == "" {
		i.ID = i.Addr
	}
	if i.Weight == 0 {
		i.Weight = 1
	}
	if i.State == "" {
		i.State = Passing
	}
	i.Metadata, i.Tags = maps.Clone(i.Metadata), slices.Clone(i.Tags)
	i.Token, i.Owner, i.Since, i.Health = 0, "", time.Time{}, nil
	if err := i.check(); err != nil {
		return i, fmt.Errorf("%w: %w", core.ErrInvalid, err)
	}
	if err := i.normalChecks(); err != nil {
		return i, invalid(err)
	}
	return i, nil
}

func (i Instance) check() error {
	for _, err := range []error{
		keyspace.CheckName("service", i.Service),
		checkAddr(i.Addr),
		keyspace.CheckName("id", i.ID),
		keyspace.CheckText("zone", i.Zone, MaxLabel),
		keyspace.CheckText("version", i.Version, MaxLabel),
		i.State.check(),
		i.checkLabels(),
	} {
		if err != nil {
			return err
		}
	}
	if i.Weight < 1 || i.Weight > MaxWeight {
		return fmt.Errorf("weight: %d is outside 1 to %d", i.Weight, MaxWeight)
	}
	return nil
}

func (i Instance) checkLabels() error {
	if len(i.Tags) > MaxLabels {
		return fmt.Errorf("tags: there are %d, the limit is %d", len(i.Tags), MaxLabels)
	}
	for _, tag := range i.Tags {
		if err := keyspace.CheckText("tags", tag, MaxLabel); err != nil {
			return err
		}
	}
	if len(i.Metadata) > MaxLabels {
		return fmt.Errorf("metadata: has %d entries, the limit is %d", len(i.Metadata), MaxLabels)
	}
	for k, v := range i.Metadata {
		if k == "" {
			return fmt.Errorf("metadata: has an empty key")
		}
		if err := keyspace.CheckText("metadata", k, MaxLabel); err != nil {
			return err
		}
		if err := keyspace.CheckText("metadata", v, MaxMetadata); err != nil {
			return err
		}
	}
	return nil
}

func (s State) check() error {
	switch s {
	case Passing, Warning, Critical, Draining, Maintenance:
		return nil
	}
	return fmt.Errorf("state: %.40q is not passing, warning, critical, draining or maintenance", string(s))
}

func checkAddr(addr string) error {
	if err := keyspace.CheckText("addr", addr, MaxAddr); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host == "" {
		return fmt.Errorf("addr: %.100q is not host:port", addr)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("addr: the port in %.100q is not between 1 and 65535", addr)
	}
	return nil
}
