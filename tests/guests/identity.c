// Who the program is, and what /etc/passwd and /etc/group say.
#include "say.h"

#include <grp.h>
#include <pwd.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

static void user(const char *how, const struct passwd *user) {
    if (user == NULL) SAY(how, "none");
    else
        SAY(how, "%s:%s:%u:%u:%s:%s:%s", user->pw_name, user->pw_passwd, (unsigned)user->pw_uid,
            (unsigned)user->pw_gid, user->pw_gecos, user->pw_dir, user->pw_shell);
}

static void group(const char *how, const struct group *group) {
    if (group == NULL) {
        SAY(how, "none");
        return;
    }
    printf("%s: %s:%u", how, group->gr_name, (unsigned)group->gr_gid);
    for (char **member = group->gr_mem; *member; member++) printf(" %s", *member);
    putchar('\n');
}

int main(void) {
    SAY("ids", "%u %u %u %u", (unsigned)getuid(), (unsigned)geteuid(), (unsigned)getgid(), (unsigned)getegid());
    gid_t groups[64];
    int count = getgroups(64, groups);
    SAY("getgroups", "%d, %d", count, getgroups(0, NULL));
    for (int i = 0; i < count; i++) SAY("group", "%u", (unsigned)groups[i]);
    if (count > 1) TRY(getgroups(1, groups));
    SAY("getpid", "%d", (int)getpid());
    SAY("getppid", "%d", (int)getppid());
    char name[65];
    struct utsname names;
    MUST(gethostname(name, sizeof name));
    MUST(uname(&names));
    SAY("host", "%s, %s", name, names.nodename);
    TRY(gethostname(name, 1));
    struct rlimit limit;
    for (const int *resource = (const int[]){RLIMIT_CPU, RLIMIT_FSIZE, RLIMIT_CORE, RLIMIT_NOFILE, -1}; *resource != -1;
         resource++) {
        MUST(getrlimit(*resource, &limit));
        SAY("limit", "%llu %llu", (unsigned long long)limit.rlim_cur, (unsigned long long)limit.rlim_max);
    }
    MUST(getrlimit(RLIMIT_STACK, &limit));
    SAY("limit of the stack", "%d", limit.rlim_cur >= 1 << 20);
    TRY(getrlimit(1000, &limit));
    // What is set already may be set, and more than the most may not. A guest may not lower a limit either.
    MUST(getrlimit(RLIMIT_NOFILE, &limit));
    TRY(setrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_max++;
    TRY(setrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = limit.rlim_max + 1;
    TRY(setrlimit(RLIMIT_NOFILE, &limit));
    TRY(setrlimit(1000, &limit));

    user("root", getpwnam("root"));
    user("none", getpwnam("none"));
    user("1000", getpwuid(1000));
    user("77", getpwuid(77));
    group("staff", getgrnam("staff"));
    group("1000", getgrgid(1000));
    group("77", getgrgid(77));
    setpwent();
    for (struct passwd *entry; (entry = getpwent());) user("getpwent", entry);
    endpwent();
    setgrent();
    for (struct group *entry; (entry = getgrent());) group("getgrent", entry);
    endgrent();

    struct passwd one, *found;
    char buffer[200];
    SAY("getpwnam_r", "%d", getpwnam_r("app", &one, buffer, sizeof buffer, &found));
    user("app", found);
    SAY("getpwnam_r", "%s", error_name(getpwnam_r("app", &one, buffer, 5, &found)));
    SAY("getpwuid_r", "%d %d", getpwuid_r(77, &one, buffer, sizeof buffer, &found), found == NULL);
    struct group all, *found_group;
    SAY("getgrnam_r", "%d", getgrnam_r("staff", &all, buffer, sizeof buffer, &found_group));
    group("staff", found_group);
    SAY("getgrgid_r", "%s", error_name(getgrgid_r(50, &all, buffer, 8, &found_group)));
    return 0;
}
