package schema

import (
	"cmp"
	"slices"
	"strings"
)

// Members returns the names of the hosts of a group, sorted; "all" is every
// host, and a host's name is that host. ok is false when there is no such
// name.
func (inv *Inventory) Members(name string) (hosts []string, ok bool) {
	if name == "all" {
		return sorted(inv.Hosts), true
	}
	if _, isHost := inv.Hosts[name]; isHost {
		return []string{name}, true
	}
	if _, isGroup := inv.Groups[name]; !isGroup {
		return nil, false
	}
	set, seen := map[string]bool{}, map[string]bool{}
	inv.gather(name, set, seen)
	return sorted(set), true
}

// gather adds the hosts of a group to set, visiting each group once.
func (inv *Inventory) gather(group string, set, seen map[string]bool) {
	if seen[group] {
		return
	}
	seen[group] = true
	for _, h := range inv.Groups[group].Hosts {
		set[h.Value] = true
	}
	for _, child := range inv.Groups[group].Groups {
		inv.gather(child.Value, set, seen)
	}
}

// Select returns the hosts that a list of names stands for, sorted. Unknown
// names are mistakes.
func (inv *Inventory) Select(names Hosts, d *Diagnostics) []string {
	set := map[string]bool{}
	if !slices.ContainsFunc(names, func(n Text) bool { return !strings.HasPrefix(n.Value, "!") }) {
		for h := range inv.Hosts {
			set[h] = true
		}
	}
	for _, adding := range []bool{true, false} { // first those that add, then those that leave out
		for _, n := range names {
			name, out := strings.CutPrefix(n.Value, "!")
			if out == adding {
				continue
			}
			members, ok := inv.Members(name)
			if !ok {
				known := slices.Concat([]string{"all"}, sorted(inv.Groups), sorted(inv.Hosts))
				d.Add(n.Pos, "no host or group %q in inventory %s%s", name, inv.Source.Name, Suggest(name, known))
				continue
			}
			for _, m := range members {
				if out {
					delete(set, m)
				} else {
					set[m] = true
				}
			}
		}
	}
	return sorted(set)
}

// GroupsOf returns the groups that contain a host, widest first: a group comes
// after the groups that contain it, otherwise by name.
func (inv *Inventory) GroupsOf(host string) []string {
	parents := map[string][]string{}
	var list []string
	for name, g := range inv.Groups {
		if slices.ContainsFunc(g.Hosts, func(t Text) bool { return t.Value == host }) {
			list = append(list, name)
		}
		for _, child := range g.Groups {
			parents[child.Value] = append(parents[child.Value], name)
		}
	}
	seen := map[string]bool{}
	for i := 0; i < len(list); i++ { // list grows by the parents
		if seen[list[i]] {
			list = slices.Delete(list, i, i+1)
			i--
			continue
		}
		seen[list[i]] = true
		list = append(list, parents[list[i]]...)
	}
	depths := map[string]int{}
	slices.SortFunc(list, func(a, b string) int {
		return cmp.Or(cmp.Compare(depth(a, parents, depths), depth(b, parents, depths)), strings.Compare(a, b))
	})
	return list
}

// depth is the length of the longest chain of groups that contain name. known
// holds those found before; a group that is being computed counts as 0.
func depth(name string, parents map[string][]string, known map[string]int) int {
	if d, ok := known[name]; ok {
		return d
	}
	known[name] = 0
	deepest := 0
	for _, p := range parents[name] {
		deepest = max(deepest, depth(p, parents, known)+1)
	}
	known[name] = deepest
	return deepest
}

// cycles reports each group that is reached from itself, at the reference that
// closes the circle.
func (inv *Inventory) cycles(d *Diagnostics) {
	done := map[string]bool{}
	var path []string
	var visit func(name string)
	visit = func(name string) {
		if done[name] {
			return
		}
		path = append(path, name)
		for _, child := range inv.Groups[name].Groups {
			if i := slices.Index(path, child.Value); i >= 0 {
				circle := append(slices.Clone(path[i:]), child.Value)
				d.Add(child.Pos, "group %q contains itself: %s", child.Value, strings.Join(circle, " -> "))
				continue
			}
			visit(child.Value)
		}
		path = path[:len(path)-1]
		done[name] = true
	}
	for _, name := range sorted(inv.Groups) {
		visit(name)
	}
}
