//go:build !race

package sessionmodel

const raceEnabled = false
