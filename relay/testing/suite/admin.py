"""Behaviours that an admin sees: settings, secrets, `open` and `probe`."""

from relay.api import Secret
from relay.testing.suite.behaviour import SuiteBase, behaviour, expect, overheard
from relay.testing.suite.destination import Failure
from relay.testing.suite.refusal import check_refused
from relay.testing.suite.rehearsal import TOKEN, Rehearsal

FAILURES: tuple[Failure, ...] = ("unauthorized", "unavailable", "cut", "refused")


class AdminBehaviours(SuiteBase):
    """What every connector shows to those who set it up."""

    @behaviour("open_fails")
    async def test_open_fails_with_a_sentence_and_succeeds_later(self, rehearsal: Rehearsal) -> None:
        """Without its destination `open` succeeds or says why not. Later it succeeds."""
        await rehearsal.destination.fail_with("refused")
        connector = rehearsal.make()
        try:
            await rehearsal.within("open", connector.open())
        except AssertionError:
            raise
        except Exception as error:  # a lane logs its text
            expect(" " in str(error), f"open says no sentence, but {str(error)!r}")
        await rehearsal.within("close", connector.close())
        await rehearsal.destination.recover()
        await rehearsal.within("open", connector.open())
        await rehearsal.check_arrives(rehearsal.batch(1))
        await rehearsal.within("release", connector.release())

    @behaviour("probe")
    async def test_probe_passes_and_sends_nothing(self, rehearsal: Rehearsal) -> None:
        """`probe` says what it has found, before and after `open`, and no event arrives."""
        connector = rehearsal.make()
        said = [await rehearsal.within("probe", connector.probe())]
        async with rehearsal.opened() as connector:
            said.append(await rehearsal.within("probe", connector.probe()))
            expect(all(one is None or one.strip() for one in said), "probe has found an empty text")
            expect(not await rehearsal.destination.arrived(), "probe has sent something")

    @behaviour("probe_fails")
    async def test_probe_fails_with_a_sentence(self, rehearsal: Rehearsal) -> None:
        """Without the destination `probe` raises what is wrong; None says that only sending would tell."""
        async with rehearsal.opened() as connector:
            if await rehearsal.within("probe", connector.probe()) is None:
                return
            await rehearsal.destination.fail_with("refused")
            try:
                said = await rehearsal.within("probe", connector.probe())
            except AssertionError:
                raise
            except Exception as error:  # any exception says what is wrong
                expect(" " in str(error), f"probe says no sentence, but {str(error)!r}")
            else:
                raise AssertionError(f"probe finds a destination that is not there: {said!r}")

    @behaviour("unknown_setting")
    async def test_refuses_an_unknown_setting(self, rehearsal: Rehearsal) -> None:
        """A setting that the type does not have is a mistake, and named."""
        check_refused(rehearsal.make().settings, "surprise", 1)

    @behaviour("wrong_unit")
    async def test_refuses_a_wrong_unit(self, rehearsal: Rehearsal) -> None:
        """A time in no unit that there is is a mistake, and named."""
        check_refused(rehearsal.make().settings, "timeout", "3 fortnights")

    @behaviour("missing_secret")
    async def test_sends_nothing_without_its_secret(self, rehearsal: Rehearsal) -> None:
        """A secret that cannot be read is no empty secret."""
        if not _has_secret(rehearsal):
            return
        missing = Secret("env", "RELAY_SUITE_HAS_NO_SUCH_SECRET")
        try:
            connector = rehearsal.make(missing)
            await rehearsal.within("open", connector.open())
            await rehearsal.within("deliver", connector.deliver(rehearsal.batch(1)))
        except AssertionError:
            raise
        except Exception as error:  # relay refuses such a configuration before
            expect(" " in str(error), f"no sentence says what is missing, but {str(error)!r}")
        expect(not await rehearsal.destination.arrived(), "an event was sent without the secret")
        await rehearsal.within("release", rehearsal.connector.release())

    @behaviour("secret")
    async def test_keeps_its_secret_out_of_what_it_says(self, rehearsal: Rehearsal) -> None:
        """No outcome, log line, output, representation or text of `probe` has the secret."""
        with overheard() as heard:
            async with rehearsal.opened() as connector:
                said = [repr(connector), str(connector), repr(connector.settings), repr(vars(connector.settings))]
                said.append(repr(await rehearsal.deliver(rehearsal.batch(2))))
                for failure in FAILURES:
                    if failure in self.lacks:
                        continue
                    await rehearsal.destination.fail_with(failure)
                    said.append(repr(await rehearsal.deliver(rehearsal.batch(2))))
                    said.append(connector.notice)
                    try:
                        said.append(str(await rehearsal.within("probe", connector.probe())))
                    except Exception as error:  # its text is what counts
                        said.append(repr(error))
                    await rehearsal.destination.recover()
        expect(TOKEN not in "\n".join(said), "the secret is in an outcome, a representation or a text of probe")
        expect(TOKEN not in heard(), "the secret is in the log or the output")


def _has_secret(rehearsal: Rehearsal) -> bool:
    """Return whether a setting of the connector holds the suite's secret."""
    settings = rehearsal.make().settings
    values = [*vars(settings).values()]
    values += [held for value in values if isinstance(value, dict) for held in value.values()]
    return any(isinstance(value, Secret) and value.problem is None and value.reveal() == TOKEN for value in values)
