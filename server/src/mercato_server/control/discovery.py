"""Starting the hosts of all plugins side by side, and settling whose model names clash."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mercato_server.contract.plugin import Offer, Offers, PluginInfo, Refusal
from mercato_server.control.posts import Post, Roster
from mercato_server.errors import PluginRefused
from mercato_server.plugins.host import clashes
from mercato_server.serving.catalog import Version

SETTLING_SECONDS = 5.0
"""How long after the first plugin that offers models the others are waited for before names are settled."""


@dataclass
class Found:
    """Plugins that have answered: the started posts with what they offer, and the refused."""

    posts: dict[Post, Offers] = field(default_factory=dict)
    refused: list[Refusal] = field(default_factory=list)


async def discover(roster: Roster, plugins: Iterable[PluginInfo]) -> AsyncGenerator[Found, None]:
    """Start a host for each plugin: first those that answer together, their names settled, then each as it comes."""
    loop = asyncio.get_running_loop()
    starting = {loop.create_task(_answer(roster.post(plugin))) for plugin in plugins}
    taken = set[Post]()  # by whoever asked
    try:
        pending, together = await _together(roster, starting)
        yield (found := await _settled(together))
        taken.update(found.posts)
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield (found := task.result())
                taken.update(found.posts)
    finally:
        await _ended(starting, taken)


def refusal_for_names(plugin: PluginInfo, offers: Sequence[Offer], served: Collection[Version]) -> Refusal | None:
    """Why a plugin cannot join what is served: a name of another plugin's model, or one of its own twice."""
    own = (plugin.distribution, plugin.entry_point)
    others = {v.name: v for v in served if (v.plugin.distribution, v.plugin.entry_point) != own}
    return next((refusal for refusal in clashes([*others.values(), *offers]) if refusal.plugin == plugin), None)


async def _answer(post: Post) -> Found:
    try:
        return Found({post: await post.start()})
    except PluginRefused as error:
        await post.close()
        return Found(refused=[Refusal(post.plugin, error.code, str(error))])
    except BaseException:
        await post.close(at_once=True)
        raise


async def _ended(starting: Collection[asyncio.Task[Found]], taken: Collection[Post]) -> None:
    """End what starts, and what has answered and nobody took."""
    for task in starting:
        task.cancel()
    answers = await asyncio.gather(*starting, return_exceptions=True)
    left = [post for answer in answers if isinstance(answer, Found) for post in answer.posts if post not in taken]
    await asyncio.gather(*(post.close(at_once=True) for post in left))


async def _together(roster: Roster, starting: set[asyncio.Task[Found]]) -> tuple[set[asyncio.Task[Found]], list[Found]]:
    """Those that are still importing when the time for settling names is over, and the answers of the others."""
    pending, answers = starting, list[Found]()
    patience: asyncio.Future[None] | None = None
    try:
        while pending and not (patience is not None and patience.done()):
            waited: set[asyncio.Future[Any]] = {*pending, *([patience] if patience is not None else ())}
            done, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            answers += [task.result() for task in pending & done]
            pending = pending - done
            if patience is None and any(answer.posts for answer in answers):
                patience = asyncio.ensure_future(roster.clock.sleep(SETTLING_SECONDS))
    finally:
        if patience is not None:
            patience.cancel()
    return pending, answers


def _all(offers: Iterable[Offers]) -> Iterator[Offer]:
    return (offer for plugin in offers for offer in plugin.models)


async def _settled(answers: Sequence[Found]) -> Found:
    """Plugins whose models' names clash are all refused."""
    posts = {post: offers for answer in answers for post, offers in answer.posts.items()}
    refused = [refusal for answer in answers for refusal in answer.refused]
    clashing = {refusal.plugin: refusal for refusal in clashes(_all(posts.values()))}
    for post in [post for post in posts if post.plugin in clashing]:
        del posts[post]
        await post.close()
    return Found(posts, [*refused, *clashing.values()])
