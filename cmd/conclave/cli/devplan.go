package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/conclavehq/conclave/core/embedded"
	"github.com/conclavehq/conclave/core/host"
)

const (
	maxNodes = 6 // port 62380 is the last one
	// nodeStep lies between the ports of one node and those of the next but the first:
	// 2379, 22379, 32379.
	nodeStep = 10_000

	planName = "nodes.json"
)

// A nodePlan is where the nodes of a dev are. It is kept in the data directory: the
// members know each other by these addresses.
type nodePlan struct {
	Nodes   []nodeAddrs `json:"nodes"`
	Founded bool        `json:"founded"` // all of them have served
}

// nodeAddrs are the host:port of one node.
type nodeAddrs struct {
	API    string `json:"api"`
	Client string `json:"client"`
	Peer   string `json:"peer"`
}

// planNodes says where each of n nodes listens. A port that is 0 is the one of the
// time before, or a free one. Every port has been seen to be free.
func planNodes(cfg host.Config, n int) (*nodePlan, error) {
	before, err := readPlan(cfg.DataDir, n)
	if err != nil {
		return nil, err
	}
	plan := &nodePlan{Nodes: make([]nodeAddrs, n), Founded: before.Founded}
	for i := range plan.Nodes {
		if plan.Nodes[i], err = nodeAddrsOf(cfg, before.Nodes[i], i); err != nil {
			return nil, err
		}
	}
	var held []net.Listener
	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()
	for i := range plan.Nodes {
		at := &plan.Nodes[i]
		for _, addr := range []*string{&at.API, &at.Client, &at.Peer} {
			l, err := listenAt(*addr)
			if err != nil {
				return nil, addressError(*addr, err)
			}
			held = append(held, l)
			*addr = l.Addr().String()
		}
		if old := before.Nodes[i].Peer; old != "" && old != at.Peer {
			return nil, usage("invalid_peer-addr", "give the same --peer-addr, or another --data-dir",
				"the nodes in %s know each other by other addresses: node %d is at %s, not at %s", cfg.DataDir, i+1, old, at.Peer)
		}
	}
	return plan, nil
}

// nodeAddrsOf is where node i is to listen, counted from 0.
func nodeAddrsOf(cfg host.Config, before nodeAddrs, i int) (at nodeAddrs, err error) {
	for _, a := range []struct {
		flag, base, before string
		to                 *string
	}{
		{"api-addr", cfg.API.Listen, before.API, &at.API},
		{"client-addr", cfg.Etcd.ListenClient, before.Client, &at.Client},
		{"peer-addr", cfg.Etcd.ListenPeer, before.Peer, &at.Peer},
	} {
		if *a.to, err = nodeAddr(a.flag, a.base, a.before, i); err != nil {
			return at, err
		}
	}
	return at, nil
}

// nodeAddr is the address of node i, counted from 0.
func nodeAddr(flag, base, before string, i int) (string, error) {
	name, text, err := net.SplitHostPort(base)
	if err != nil {
		return "", usage("invalid_"+flag, "such as 127.0.0.1:2379", "--%s: %v", flag, err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	switch {
	case err != nil:
		return "", usage("invalid_"+flag, "such as 127.0.0.1:2379", "--%s: %q: port %q is not a number from 0 to 65535", flag, base, text)
	case port == 0 && before != "":
		return before, nil
	case port == 0 || i == 0:
		return base, nil
	}
	port += uint64(nodeStep * (i + 1))
	if port > 65535 {
		return "", usage("invalid_"+flag, "give a lower port, or port 0", "--%s: %s leaves no port for node %d: it would be %d", flag, base, i+1, port)
	}
	return net.JoinHostPort(name, strconv.FormatUint(port, 10)), nil
}

func addressError(addr string, err error) error {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return hostError(err, "", "")
	}
	return &Error{Exit: ExitFailed, Code: "failed_precondition", Reason: "address_in_use", cause: err,
		Message: addr + " is in use: another process listens there, perhaps another conclave",
		Hint:    "stop it, or use free ports: --api-addr 127.0.0.1:0 --client-addr 127.0.0.1:0 --peer-addr 127.0.0.1:0"}
}

// readPlan returns the plan of the time before, or one without addresses.
func readPlan(dir string, n int) (nodePlan, error) {
	none := nodePlan{Nodes: make([]nodeAddrs, n)}
	b, err := os.ReadFile(filepath.Join(dir, planName))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(dir, "member")); n > 1 && err == nil {
			return none, wrongNodes(dir, "a single node", "leave out --nodes")
		}
		return none, nil
	}
	if err != nil {
		return none, hostError(fmt.Errorf("data directory: %w", err), "", "")
	}
	var plan nodePlan
	if err := json.Unmarshal(b, &plan); err != nil {
		return none, fmt.Errorf("%s: %w", filepath.Join(dir, planName), err)
	}
	if had := len(plan.Nodes); had != n {
		return none, wrongNodes(dir, fmt.Sprintf("%d nodes", had), fmt.Sprintf("say --nodes %d", had))
	}
	return plan, nil
}

func wrongNodes(dir, what, instead string) error {
	return usage("invalid_nodes", instead+", or use another --data-dir", "%s holds the data of %s", dir, what)
}

func (p *nodePlan) write(dir string) error {
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, planName)
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// config is that of node i, counted from 0.
func (p *nodePlan) config(base host.Config, i int) host.Config {
	scheme, api := "http://", "http://"
	if base.Etcd.PeerTLS.Cert != "" {
		scheme = "https://"
	}
	if base.TLS.Cert != "" {
		api = "https://"
	}
	founders, join := make(map[string]string, len(p.Nodes)), host.Addresses(nil)
	for k, at := range p.Nodes {
		founders[nodeName(k)] = scheme + at.Peer
		if k != i {
			join = append(join, api+at.API)
		}
	}
	// A node whose data were taken away is a new member: to found the cluster once more
	// would have it vote twice.
	if p.Founded && !embedded.HasData(filepath.Join(base.DataDir, nodeName(i))) {
		base.Etcd.Join = join
	} else {
		base.Etcd.InitialCluster = founders
	}
	at := p.Nodes[i]
	base.Name, base.DataDir = nodeName(i), filepath.Join(base.DataDir, nodeName(i))
	base.API.Listen, base.Etcd.ListenClient, base.Etcd.ListenPeer = at.API, at.Client, at.Peer
	return base
}

func nodeName(i int) string { return fmt.Sprintf("node%d", i+1) }
