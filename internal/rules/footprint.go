package rules

import (
	"slices"
	"strings"
)

// clientPackage is what every user of a library compiles anyway.
const clientPackage = "go.etcd.io/etcd/client/v3"

// Footprint returns the third-party packages that a user of library compiles
// beyond what etcd's client brings, sorted. all is the answer of go list -deps
// for the library and the client; packages of the standard library and of this
// module are not third-party.
func Footprint(library string, all []Package) []string {
	thirdParty := map[string]bool{}
	var client, own []string
	for _, p := range all {
		_, ours := p.Rel()
		thirdParty[p.ImportPath] = !p.Standard && !ours
		switch p.ImportPath {
		case clientPackage:
			client = slices.Concat(p.Deps, []string{p.ImportPath})
		case library:
			own = p.Deps
		}
	}
	var extra []string
	for _, dep := range own {
		if thirdParty[dep] && !slices.Contains(client, dep) {
			extra = append(extra, dep)
		}
	}
	slices.Sort(extra)
	return slices.Compact(extra)
}

// Golden returns a list as a golden file holds it, one entry a line.
func Golden(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return strings.Join(list, "\n") + "\n"
}
