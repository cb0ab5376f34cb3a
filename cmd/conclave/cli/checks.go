package cli

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	hostv1 "github.com/conclavehq/conclave/api/conclave/host/v1"
	"github.com/conclavehq/conclave/cmd/conclave/internal/remote"
)

const (
	maxSkew   = 2 * time.Second
	leastFree = 1 << 30

	minTTLMany = 10 * time.Second // of a cluster of several members
)

// checkAccess looks at what is sent where.
func (a *app) checkAccess(t target) []finding {
	const check = "access"
	with, err := a.access(t)
	if err != nil {
		e := describe(err)
		return []finding{{check, failing, e.Message, e.Hint}}
	}
	text := fmt.Sprintf("%s, by %s", t.addresses(), t.from)
	for _, u := range append(slices.Clone(t.api), t.endpoints...) {
		if !plain(u) {
			continue
		}
		if with.token != "" {
			return []finding{{check, failing, u + " gets the token in the clear", "use https, or a host on this machine"}}
		}
		return []finding{{check, warned, u + " is reached in the clear: others on the network can read and change what is said", "use https"}}
	}
	return []finding{{check, fine, text, ""}}
}

// plain reports whether what is sent to the URL leaves this machine in the clear.
func plain(address string) bool {
	if strings.Contains(address, "://") {
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "http" {
			return false
		}
		address = u.Host
	}
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && host != "localhost" && (ip == nil || !ip.IsLoopback())
}

// checkOthers asks every host by itself: one that is down is not missed by calls,
// which take the next, until the others go down too.
func (a *app) checkOthers(ctx context.Context, t target) []finding {
	if len(t.api) < 2 {
		return nil
	}
	var down []finding
	for _, u := range t.api {
		one := target{api: []string{u}, from: t.from, context: t.context}
		c, err := a.host(one)
		if err == nil {
			err = askAlone(ctx, c)
		}
		if err != nil {
			down = append(down, finding{"hosts", warned, oneLine(err), "start it, or take it out of the list"})
		}
	}
	if len(down) == 0 {
		return []finding{{"hosts", fine, fmt.Sprintf("all %d answer", len(t.api)), ""}}
	}
	return down
}

func askAlone(ctx context.Context, c *remote.Client) error {
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(ctx, opening)
	defer cancel()
	_, err := hostLooker{c}.status(ctx)
	return err
}

func checkVersion(s *hostv1.StatusResponse) finding {
	const unknown = "(devel)" // built with go run, or without git
	own := readVersion().Version
	if own != s.GetVersion() && (own == unknown || s.GetVersion() == unknown) {
		return finding{"version", skipped, fmt.Sprintf("the host is conclave %s, this command is %s: one of them does not know its version", s.GetVersion(), own), ""}
	}
	if own != s.GetVersion() {
		return finding{"version", warned, fmt.Sprintf("the host is conclave %s, this command is %s", s.GetVersion(), own), "use the same version on both sides"}
	}
	return finding{"version", fine, fmt.Sprintf("both sides are conclave %s", s.GetVersion()), ""}
}

// checkClock compares the host's clock with this machine's. The host read its clock
// at some moment between the two readings here.
func checkClock(s *hostv1.StatusResponse, began, ended time.Time) finding {
	const check = "clock"
	if s.GetStartedAt() == nil {
		return finding{check, skipped, "the host did not tell its time", ""}
	}
	there := s.GetStartedAt().AsTime().Add(s.GetUptime().AsDuration())
	ahead := time.Duration(0)
	switch {
	case there.Before(began):
		ahead = there.Sub(began)
	case there.After(ended):
		ahead = there.Sub(ended)
	}
	if ahead.Abs() > maxSkew {
		return finding{check, warned, fmt.Sprintf("the host's clock differs by %s: times in lists and histories are off by it. No ownership depends on it", roughly(ahead.Abs())),
			"keep clocks in step with NTP"}
	}
	return finding{check, fine, "in step with the host's", ""}
}

// A topic is a check of what the host says is wrong.
type topic struct {
	check   string
	reasons []string
	well    string
	known   bool // what no problem was told of may be unknown as well
}

// checkProblems is what the host says, sorted into checks that are shown also when
// there is nothing to say.
func checkProblems(s *hostv1.StatusResponse, direct bool) []finding {
	e := s.GetEtcd()
	topics := []topic{
		{"quorum", []string{"no_quorum", "no_leader"}, etcdText(e), true},
		{"members", []string{"member_down", "version_skew"}, "all answer", len(e.GetMembers()) > 0},
		{"login", []string{"auth_enabled"}, "etcd lets the caller in", e.GetServing()},
		{"database", []string{"no_space", "corrupt", "alarm", "nearly_full", "fragmented"}, "no alarm, " + databaseText(e),
			e.GetServing() && e.GetDbSize() > 0},
	}
	if !direct { // what only a host knows
		topics = append(topics, []topic{
			{"pace", []string{"slow_disk", "leader_flaps"}, "the disk and the leader were steady in the last minutes", e.GetMode() == hostv1.EtcdMode_ETCD_MODE_EMBEDDED},
			{"certificates", []string{"certificate_broken", "certificate_expired", "certificate_expires"}, "none ends soon", true},
			{"sessions", []string{"sessions_near_limit"}, fmt.Sprintf("%d, far from the limit", s.GetSessions()), true},
			{"recipes", []string{"recipe_failed", "recipe_degraded", "recipe_quarantined"}, fmt.Sprintf("%d, all well", len(s.GetRecipes())), true},
		}...)
	}
	var found []finding
	told := map[*hostv1.Problem]bool{}
	for _, topic := range topics {
		well := true
		for _, p := range s.GetProblems() {
			if slices.Contains(topic.reasons, p.GetReason()) {
				told[p], well = true, false
				found = append(found, findingOf(topic.check, p))
			}
		}
		switch {
		case !well:
		case topic.known:
			found = append(found, finding{topic.check, fine, topic.well, ""})
		default:
			found = append(found, finding{topic.check, skipped, "unknown: etcd does not say", ""})
		}
	}
	for _, p := range s.GetProblems() {
		if !told[p] {
			found = append(found, findingOf("host", p))
		}
	}
	return found
}

func findingOf(check string, p *hostv1.Problem) finding {
	verdict := failing
	if p.GetSeverity() == hostv1.Severity_SEVERITY_WARNING {
		verdict = warned
	}
	return finding{check, verdict, p.GetText(), p.GetHint()}
}

// checkDisk looks at the data directory, where it is on this machine and known.
func (a *app) checkDisk(t target) finding {
	const check = "disk"
	for _, dev := range a.runningDevs() {
		if dev.DataDir == "" || (!slices.Equal(dev.API, t.api) && !slices.Equal(dev.Endpoints, t.endpoints)) {
			continue
		}
		free, err := freeBytes(dev.DataDir)
		switch {
		case err != nil:
			return finding{check, skipped, oneLine(err), ""}
		case free < leastFree:
			return finding{check, warned, fmt.Sprintf("%s has %s left: etcd ends when a write fails", dev.DataDir, bytesText(free)), "free some space, or move the data directory"}
		}
		return finding{check, fine, fmt.Sprintf("%s has %s left", dev.DataDir, bytesText(free)), ""}
	}
	return finding{check, skipped, "the data directory is not known here", ""}
}

// floorOf is the least TTL of a session on the cluster.
func floorOf(s *hostv1.StatusResponse) time.Duration {
	voters := 0
	for _, m := range s.GetEtcd().GetMembers() {
		if !m.GetLearner() {
			voters++
		}
	}
	if voters > 1 {
		return minTTLMany
	}
	return minTTL
}
