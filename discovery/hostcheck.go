package discovery

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// The limits of checks that hosts carry out.
const (
	MaxChecks        = 8           // of one instance
	MaxCheckURL      = 512         // bytes of a URL
	MinCheckInterval = time.Second // between two probes
	MaxCheckInterval = time.Hour   // between two probes
	MaxCheckCount    = 100         // of Rise and Fall
)

// A HostCheck is a check of an instance that hosts carry out, one host at a time,
// as long as the instance is registered: see [RunChecks]. Zero values are the
// defaults.
type HostCheck struct {
	// URL is what is looked at, as [NewProbe] takes it, at most 512 bytes: http,
	// https, tcp, grpc or grpcs. Without a host's name, as in http://:8081/health, it
	// is that of the instance. A host runs nobody's command: exec: is for [Monitor],
	// in the process that registers.
	URL string `json:"url"`
	// Interval is the time between two probes, 1 s to 1 h: 10 s.
	Interval time.Duration `json:"interval"`
	// Timeout is that of one probe, at most the interval: 5 s.
	Timeout time.Duration `json:"timeout"`
	// Rise is after how many successes in a row it is well again, 1 to 100: 2.
	Rise int `json:"rise"`
	// Fall is after how many failures in a row it is not, 1 to 100: 3.
	Fall int `json:"fall"`
}

// Health is what hosts found when they looked at an instance.
type Health struct {
	// States are those of the checks, in their order.
	States []State `json:"states"`
	// Why says what the probe that changed a state last said; empty: all is well.
	Why string `json:"why,omitempty"`
	// By is the host that wrote it.
	By string `json:"by,omitempty"`
	// At is when, by that host's clock.
	At time.Time `json:"at,omitzero"`
}

// normal returns the check of an instance at addr with the defaults filled in.
func (c HostCheck) normal(addr string) (HostCheck, error) {
	if err := keyspace.CheckText("checks: url", c.URL, MaxCheckURL); err != nil {
		return c, err
	}
	u, err := url.Parse(c.URL)
	if err != nil {
		return c, fmt.Errorf("checks: url: %.200q is no URL", c.URL)
	}
	if u.Scheme == "exec" {
		return c, fmt.Errorf("checks: url: exec is for the process that registers: a host runs no command")
	}
	if host, _, err := net.SplitHostPort(addr); err == nil {
		switch {
		case u.Host == "":
			u.Host = addr
		case u.Hostname() == "" && u.Port() != "":
			u.Host = net.JoinHostPort(host, u.Port())
		}
	}
	c.URL = u.String()
	if c, err = c.defaults(); err != nil {
		return c, err
	}
	if _, err := plainProber().probe(c.URL); err != nil {
		return c, fmt.Errorf("checks: url: %s", strings.TrimPrefix(err.Error(), core.ErrInvalid.Error()+": check: "))
	}
	return c, nil
}

func (c HostCheck) defaults() (HostCheck, error) {
	if c.Interval == 0 {
		c.Interval = defaultInterval
	}
	if c.Timeout == 0 {
		c.Timeout = min(defaultTimeout, c.Interval)
	}
	if c.Rise == 0 {
		c.Rise = defaultRise
	}
	if c.Fall == 0 {
		c.Fall = defaultFall
	}
	switch {
	case c.Interval < MinCheckInterval || c.Interval > MaxCheckInterval:
		return c, fmt.Errorf("checks: interval: %v is outside %v to %v", c.Interval, MinCheckInterval, MaxCheckInterval)
	case c.Timeout < time.Millisecond || c.Timeout > c.Interval:
		return c, fmt.Errorf("checks: timeout: %v is outside 1ms to the interval, %v", c.Timeout, c.Interval)
	case c.Rise < 1 || c.Rise > MaxCheckCount:
		return c, fmt.Errorf("checks: rise: %d is outside 1 to %d", c.Rise, MaxCheckCount)
	case c.Fall < 1 || c.Fall > MaxCheckCount:
		return c, fmt.Errorf("checks: fall: %d is outside 1 to %d", c.Fall, MaxCheckCount)
	}
	return c, nil
}

// normalChecks checks the checks of an instance, and fills their defaults in.
func (i *Instance) normalChecks() error {
	if len(i.Checks) > MaxChecks {
		return fmt.Errorf("checks: there are %d, the limit is %d", len(i.Checks), MaxChecks)
	}
	i.Checks = slices.Clone(i.Checks)
	for k, c := range i.Checks {
		c, err := c.normal(i.Addr)
		if err != nil {
			return err
		}
		i.Checks[k] = c
	}
	return nil
}

// worst is the state of the two that counts if both are said of one instance.
func worst(a, b State) State {
	if a.rank() < b.rank() {
		return b
	}
	return a
}

// rank orders what checks can find.
func (s State) rank() int {
	switch s {
	case "", Passing:
		return 0
	case Warning:
		return 1
	}
	return 2
}

// A check is a [HostCheck] as it stands in keys, with times in milliseconds.
type check struct {
	URL      string `json:"url"`
	Interval int64  `json:"interval"`
	Timeout  int64  `json:"timeout"`
	Rise     int    `json:"rise"`
	Fall     int    `json:"fall"`
}

func checksOf(all []HostCheck) []check {
	var out []check
	for _, c := range all {
		out = append(out, check{c.URL, c.Interval.Milliseconds(), c.Timeout.Milliseconds(), c.Rise, c.Fall})
	}
	return out
}

func hostChecks(all []check) []HostCheck {
	var out []HostCheck
	for _, c := range all {
		out = append(out, HostCheck{c.URL, time.Duration(c.Interval) * time.Millisecond, time.Duration(c.Timeout) * time.Millisecond, c.Rise, c.Fall})
	}
	return out
}

// health is [Health] as it stands in a record.
type health struct {
	Said []State    `json:"said"`
	Why  string     `json:"why,omitempty"`
	By   string     `json:"by,omitempty"`
	At   *time.Time `json:"at,omitempty"`
}

func (h *health) said() []State {
	if h == nil {
		return nil
	}
	return h.Said
}

// says reports whether there is nothing to write.
func (h *health) says(found []State, why string) bool {
	return h != nil && slices.Equal(h.Said, found) && h.Why == why
}

// state is what all checks come to: critical if there is one that nobody has
// carried out yet.
func (h *health) state(checks int) State {
	if len(h.said()) != checks {
		return Critical
	}
	s := Passing
	for _, said := range h.Said {
		s = worst(s, said)
	}
	return s
}

func (h *health) public() *Health {
	if h == nil {
		return nil
	}
	out := &Health{States: h.Said, Why: h.Why, By: h.By}
	if h.At != nil {
		out.At = *h.At
	}
	return out
}

// same reports whether a reader has nothing to learn. What it says beside the
// states counts too: it changes with them only.
func (h *Health) same(other *Health) bool {
	if h == nil || other == nil {
		return h == other
	}
	return slices.Equal(h.States, other.States) && h.Why == other.Why && h.By == other.By && h.At.Equal(other.At)
}
