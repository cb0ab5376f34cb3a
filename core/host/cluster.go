package host

import (
	"encoding/json"
	"errors"
	"net"
	"net/url"
	"strings"
)

// Addresses is a list of URLs; in a configuration file one may stand alone, and
// several in one text with commas between them.
type Addresses []string

// UnmarshalJSON takes a list or a text.
func (a *Addresses) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) != nil {
		return json.Unmarshal(b, (*[]string)(a))
	}
	*a = nil
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			*a = append(*a, part)
		}
	}
	return nil
}

// checkCluster is about what makes the member one of several.
func (c Config) checkCluster() error {
	e := c.Etcd
	if e.Mode == External || len(e.Endpoints) > 0 {
		if len(e.Join) > 0 || e.AdvertiseClient != "" || e.AdvertisePeer != "" || e.InitialClusterToken != "" {
			return configError("etcd", "join, advertise_client, advertise_peer and initial_cluster_token are for mode embedded")
		}
		return nil
	}
	if len(e.Join) > 0 && len(e.InitialCluster) > 0 {
		return configError("etcd.join", "is for a cluster that runs, and etcd.initial_cluster for one that is founded: give one of the two")
	}
	for _, u := range e.Join {
		if err := checkURL(u); err != nil {
			return configError("etcd.join", "%q %w", u, err)
		}
	}
	return errors.Join(checkListen("etcd.listen_client", e.ListenClient, "etcd.advertise_client"), checkListen("etcd.listen_peer", e.listenPeer(c.Name), "etcd.advertise_peer"),
		checkAddr("etcd.advertise_client", e.AdvertiseClient), checkAddr("etcd.advertise_peer", e.AdvertisePeer),
		c.checkFounders(), c.checkPeerAddr())
}

func checkURL(address string) error {
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Port() == "" || strings.Trim(u.Path, "/") != "" {
		return errors.New("is not http://host:port or https://host:port")
	}
	return nil
}

// checkListen refuses a name where etcd takes an address alone.
func checkListen(field, addr, advertise string) error {
	name, _, err := net.SplitHostPort(addr)
	if err != nil || name == "" || name == "localhost" || net.ParseIP(name) != nil {
		return nil //nolint:nilerr // checkAddr tells what is no address at all
	}
	return configError(field, "etcd listens on IP addresses, and %s is a name: give one, and the name in %s", name, advertise)
}

// checkFounders is about initial_cluster.
func (c Config) checkFounders() error {
	const field = "etcd.initial_cluster"
	all := c.Etcd.InitialCluster
	if len(all) == 0 {
		return nil
	}
	name := firstOf(c.Name, DefaultName)
	if all[name] == "" {
		return configError(field, "has no member %q, which is this host's name", name)
	}
	byURL := make(map[string]string)
	for member, peer := range all {
		if err := checkURL(peer); err != nil {
			return configError(field, "%s: %q %w", member, peer, err)
		}
		if other := byURL[peer]; other != "" {
			return configError(field, "%s and %s are both at %s", min(member, other), max(member, other), peer)
		}
		byURL[peer] = member
	}
	if advertised := c.Etcd.AdvertisePeer; advertised != "" && hostPort(all[name]) != advertised {
		return configError(field, "says that %s is at %s, and etcd.advertise_peer that it is at %s", name, all[name], advertised)
	}
	return nil
}

// checkPeerAddr refuses addresses under which nobody could be found.
func (c Config) checkPeerAddr() error {
	if len(c.Etcd.InitialCluster) == 0 && len(c.Etcd.Join) == 0 {
		return nil
	}
	told := firstOf(c.Etcd.advertisedPeer(c.Name), firstOf(c.Etcd.ListenPeer, "127.0.0.1:2380"))
	name, port, err := net.SplitHostPort(told)
	if err != nil {
		return nil //nolint:nilerr // checkAddr tells it
	}
	ip := net.ParseIP(name)
	switch {
	case port == "0":
		return configError("etcd.listen_peer", "the other members cannot know a port that is chosen at start")
	case name == "" || (ip != nil && ip.IsUnspecified()):
		return configError("etcd.advertise_peer", "is empty, and the other members cannot reach %s", told)
	}
	return nil
}

// advertisedPeer is the host:port that the other members are told; "": the one that
// the member listens on.
func (e Etcd) advertisedPeer(name string) string {
	return firstOf(e.AdvertisePeer, hostPort(e.InitialCluster[firstOf(name, DefaultName)]))
}

// listenPeer is where the member listens for others: by default where they are told
// to look.
func (e Etcd) listenPeer(name string) string {
	return firstOf(e.ListenPeer, hostPort(e.InitialCluster[firstOf(name, DefaultName)]))
}

func hostPort(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}
