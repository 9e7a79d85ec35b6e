/* pinnace-shim: what the agent needs of Linux that Python does not offer, and the small process that stays with each container.
 * Usage: pinnace-shim COMMAND [--option value]... [-- names]. Says on standard error what went wrong; 0 done, 1 failed, 2 usage. */
#define _GNU_SOURCE
#include "shim.h"

#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

struct named_text { const char *name; const char **at; };
struct named_flag { const char *name; bool *at; };
struct named_list { const char *name; const char **at; int *count; };

/* Returns where the names after -- begin, or -1. */
static int read_options(int count, char **words, struct options *o) {
    const struct named_text texts[] = {
        {"--id", &o->id}, {"--base", &o->base}, {"--run", &o->run}, {"--state", &o->state}, {"--log", &o->log}, {"--crun", &o->crun},
        {"--crun-root", &o->crun_root}, {"--cgroup", &o->cgroup}, {"--own-cgroup", &o->own_cgroup}, {"--hostname", &o->hostname},
        {"--shm", &o->shm}, {"--net", &o->net}, {"--port", &o->port}, {"--oom-score", &o->oom_score}, {"--seconds", &o->seconds},
    };
    const struct named_flag flags[] = {
        {"--tty", &o->tty}, {"--stdin", &o->with_stdin}, {"--stdin-once", &o->stdin_once}, {"--kill-all", &o->kills_all},
        {"--systemd", &o->systemd}, {"--new-net", &o->new_net}, {"--new-ipc", &o->new_ipc}, {"--new-uts", &o->new_uts}, {"--new-pid", &o->new_pid},
    };
    const struct named_list lists[] = {
        {"--volume", o->volumes, &o->volume_count}, {"--share", o->shared, &o->shared_count}, {"--sysctl", o->sysctls, &o->sysctl_count},
    };
    for (int i = 0; i < count; i++) {
        bool known = false;
        if (strcmp(words[i], "--") == 0) return i + 1;
        for (size_t n = 0; n < sizeof flags / sizeof *flags; n++)
            if (strcmp(words[i], flags[n].name) == 0) known = *flags[n].at = true;
        if (known) continue;
        for (size_t n = 0; n < sizeof texts / sizeof *texts && i + 1 < count; n++)
            if (strcmp(words[i], texts[n].name) == 0) known = (*texts[n].at = words[i + 1]) != NULL;
        for (size_t n = 0; n < sizeof lists / sizeof *lists && i + 1 < count; n++)
            if (strcmp(words[i], lists[n].name) == 0 && *lists[n].count < MOST_REPEATED) known = (lists[n].at[(*lists[n].count)++] = words[i + 1]) != NULL;
        if (!known) {
            failed("%s: no such option, no value, or too many of them", words[i]);
            return -1;
        }
        i++;
    }
    return count;
}

static bool all(int count, const char *const *values) {
    for (int i = 0; i < count; i++)
        if (!values[i]) return false;
    return true;
}

int main(int count, char **words) {
    static struct options o;
    if (count == 1 && strcmp(words[0], PAUSE) == 0) pause_here();
    const char *command = count > 1 ? words[1] : "";
    int result = 2, names = count > 1 ? read_options(count - 2, words + 2, &o) : -1;
    prctl(PR_SET_NAME, "pinnace-shim");
    close_above(2);  // whatever an event loop let slip into its child would be held as long as the container lives
    if (names >= 0) {
        failed("%s: unknown command, or an option is missing", command);
        if (strcmp(command, "supervise") == 0 &&
            all(8, (const char *[]){o.id, o.base, o.run, o.state, o.log, o.crun, o.crun_root, o.cgroup}))
            result = supervise(&o);
        else if (strcmp(command, "exec") == 0 && all(4, (const char *[]){o.id, o.run, o.crun, o.crun_root})) result = run_exec(&o);
        else if (strcmp(command, "sandbox") == 0 && o.run) result = sandbox_make(&o);
        else if (strcmp(command, "drop") == 0 && o.run) result = sandbox_drop(&o);
        else if (strcmp(command, "prepare") == 0 && o.base) result = prepare_run(&o);
        else if (strcmp(command, "connect") == 0 && o.net && o.port) result = connect_into(&o);
        else if (strcmp(command, "cat") == 0 && o.base && o.state) result = cat_layers(&o, words + 2 + names, count - 2 - names);
    }
    if (result != 0) dprintf(2, "%s\n", problem);
    return result;
}
